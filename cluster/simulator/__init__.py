"""Simulates a cluster by the placement that serves, beside other placements. May import `cluster.placement`
and `cluster`'s own modules.
"""
