"""Which expert answers a request, and why."""
