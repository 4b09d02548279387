"""``coe bench router``: how long a decision takes."""
