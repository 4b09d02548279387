"""Decides, without clock or I/O, which nodes should hold which experts. May import `memory_tiers.tiers` and
`experts.spec`.
"""
