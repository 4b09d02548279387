"""Many nodes as one: which node should hold which expert, and which node a request goes to.

`placement` decides the first, `choice` the second; `simulator` compares both with others. May import
`memory_tiers`' own modules and `experts`; `server` is the one that talks to other machines.
"""
