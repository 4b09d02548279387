"""Simulates a cluster by the placement that serves, beside other placements. May import `placement` and
the package's own modules.
"""
