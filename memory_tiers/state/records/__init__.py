"""Holds what the tiers know, experts, engines, bytes and tickets, and makes the elementary changes to it.

May import `memory_tiers`' own modules and `experts`.
"""
