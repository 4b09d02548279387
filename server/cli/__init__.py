"""The ``coe`` command, one module a verb or group of verbs."""
