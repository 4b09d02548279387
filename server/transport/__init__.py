"""Sockets, HTTP connections, bodies in and streams out."""
