"""The verbs for one's own machine: init, doctor, chat, service, completion, help.

May import cli, config, doctor, operator_api and proposal.
"""
