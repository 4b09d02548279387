"""Which experts are on the device, in host memory, on disk, and which requests get leases (arXiv 2405.07518)."""
