"""Who may ask for what: keys, owners, rate limits, accounts, usage."""
