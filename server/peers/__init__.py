"""Other nodes: what they hold, whether they answer, and requests to them. May import access and config."""
