"""FastAPI routers of the operators' paths: orders, views, changes as they happen, the page.

May import access, config, errors, live, log_fields, observation, operator_api, peers, reload, services and
transport.
"""
