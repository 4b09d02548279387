"""A simulated engine for development, tests and load tests of the gateway."""
