"""Keeps experts in three memory tiers and grants requests leases on them (arXiv 2405.07518).

The modules here are what every folder may use: they import one another, `experts` and none of the folders.
"""
