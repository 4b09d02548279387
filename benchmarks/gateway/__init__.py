"""``coe bench gateway``: the gateway beside other proxies."""
