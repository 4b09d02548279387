"""Which experts are on the device, on the host, on disk, and which requests get leases (arXiv 2405.07518)."""
