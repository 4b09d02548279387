"""Changes the configuration of a running gateway.

May import config, engine_factory, errors, operator_api, planning, routing, services and transport.
"""
