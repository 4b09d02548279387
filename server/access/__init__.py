"""Keys, owners, rate limits, shares, accounts and usage: says who may ask for how much.

May import config, error_table, errors, model_request, routing and storage.
"""
