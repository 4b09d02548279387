"""The ``coe`` command: ``main`` imports every verb; the other modules are verbs, or what verbs share.

May import access, config, feedback, logs, operator_api, planning, routing, serve, storage and validation.
"""
