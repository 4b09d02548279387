"""Who may ask for what: keys, owners, rate limits, accounts, usage.

May import config, error_table, errors, model_request, routing and storage.
"""
