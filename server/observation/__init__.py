"""Keeps what a gateway does: stories of requests, what moved, lines of the log, an hour of figures.

May import config and routing.
"""
