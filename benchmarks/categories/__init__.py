"""``coe bench doubts`` and ``coe bench embedders``: classification quality."""
