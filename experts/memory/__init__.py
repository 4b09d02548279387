"""Says what memory the machine and its shared-memory folder have."""
