"""Decides, without clock or I/O, where each expert is and which requests get leases.

`records` holds what is known, `decision` what is to be done next; the modules here take in events and answer
questions. May import `memory_tiers`' own modules and `experts`, never `driver` or `simulator`.
"""
