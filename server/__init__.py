"""The composition root: settings, HTTP gateway and the ``coe`` command."""
