"""The path of one request: admit, route, lease, stream, release."""
