"""This node as others see it: what it says about itself, and what it computes for them.

May import access, config, error_table, errors, exchange.engine, peers, services and transport.
"""
