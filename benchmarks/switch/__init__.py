"""``coe bench switch``: what a switch, a load and a start cost."""
