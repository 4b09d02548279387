"""The engine seam, what every engine must prove, and what engine processes share:
HTTP over Unix sockets, processes, canaries."""
