"""The verbs for one's own machine: init, doctor, chat, service.

May import cli, config, doctor, operator_api and proposal.
"""
