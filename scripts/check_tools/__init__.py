"""Runs tools that people use against a gateway, each installed anew in a folder of its own."""
