"""The verbs of ``coe feedback``. May import access, cli, config, feedback, routing and storage."""
