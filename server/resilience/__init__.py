"""Circuit breakers and time-outs."""
