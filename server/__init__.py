"""The composition root: settings, HTTP gateway and the ``coe`` command.

From below: ``errors``, ``validation``, ``model_request`` and ``error_table`` are what every folder speaks in;
``services`` is what every request needs; ``compose`` builds all there is, ``app`` gives each path to what
answers it, and ``serve`` is the process.
"""
