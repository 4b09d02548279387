"""Plans what experts, KV and engines take on each GPU of a node, before anything is started. Pure.

Nothing here was measured on a GPU. May import `memory_tiers`' own modules, the profiles of
`memory_tiers.simulator`, and `experts`.
"""
