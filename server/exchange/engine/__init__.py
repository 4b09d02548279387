"""Chooses the expert and calls its engine.

May import error_table, resilience, routing and services.
"""
