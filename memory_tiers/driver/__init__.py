"""Carries out the state machine's actions on the asyncio loop, over real engines and files.

May import `memory_tiers`' own modules, `memory_tiers.state` and `experts`, never `simulator`.
"""
