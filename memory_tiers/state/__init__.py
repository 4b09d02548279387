"""Decides, without clock or I/O, where each expert is and which requests get leases."""
