"""Circuit breakers and time-outs. May import config and errors."""
