"""Which expert answers a request, and why. May import config, errors and model_request."""
