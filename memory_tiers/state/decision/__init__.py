"""Decides after every event which experts move and which tickets get leases.

May import `memory_tiers.state.records`, `memory_tiers`' own modules and `experts`.
"""
