"""Carries out the same state machine's actions on a virtual clock, over machine profiles and traces.

May import `memory_tiers`' own modules, `memory_tiers.state` and `experts`, never `driver`.
"""
