"""A gateway process beside the node's: it parses, routes and streams; leases and counts come from the node.

May import access, app, config, logs, observation, peers, processes, resilience, routing, serve, services,
tracing and transport.
"""
