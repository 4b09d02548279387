"""Trains and evaluates the router that the gateway loads."""
