"""Tells pages and terminals of a running gateway: its state and what changes, stories, and views.

May import config, observation, routing, services and transport.
"""
