"""Nodes on a Ray cluster: Ray says which machines there are, and starts a node on each; requests never pass
through it. Needs the extra `ray`. May import config.
"""
