"""The ``coe`` command: ``main`` imports every verb; the other modules are verbs, or what verbs share.

May import access, config, logs, operator_api, planning, routing, serve, storage and validation.
"""
