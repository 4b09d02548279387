"""``coe bench router``: how long a decision takes. May import router and benchmarks.engine.figures."""
