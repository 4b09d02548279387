"""Log lines of the gateway: one format, on standard error."""

import logging


def configure(verbose: bool) -> None:
    """Called once by the command line."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", datefmt="%H:%M:%S"
    )
    # A line of the log says neither where it was written nor by what thread, so nobody needs to find out.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    if not verbose:
        for name in ("httpx", "asyncio", "uvicorn.access", "huggingface_hub"):
            logging.getLogger(name).setLevel(logging.WARNING)
