"""Gateway processes beside the node's, seen from there: their links, what they ask, and their lives.

May import access, config, errors, feedback, observation, peers, resilience, routing, services and transport.
"""
