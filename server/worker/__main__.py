"""Runs a gateway process: ``python -m server.worker LINK LISTENER``, which the node's process does."""

import sys

from server.worker.gateway import main

if __name__ == "__main__":
    main(*sys.argv[1:3])
