"""``coe serve``: serves a configuration over HTTP."""

import argparse
import signal
from pathlib import Path

from server.cli.arguments import Parent, add_verb
from server.cli.experts import prepare_experts
from server.config.cluster import Address
from server.config.settings import Settings, SettingsError, load


def add_to(parent: Parent) -> None:
    made = add_verb(parent, "serve", serve, "serve a configuration over HTTP")
    made.add_argument("--host", help="address to listen on, over the configuration's")
    made.add_argument(
        "--port", type=int, help="port to listen on, over the configuration's; 0 takes a free one"
    )
    made.add_argument("--prepare", action="store_true", help="first prepare the experts that are not")
    made.add_argument("--tls-cert", type=Path, help="certificate for HTTPS, over the configuration's")
    made.add_argument("--tls-key", type=Path, help="the certificate's private key, over the configuration's")
    made.add_argument("--node", metavar="HOST:PORT", help="where to listen for nodes, over cluster's")
    made.add_argument("--verbose", action="store_true", help="log every HTTP access and library")


def serve(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it means a reload

    import uvloop

    import server.logs
    from server.serve import serve as serve_forever

    given = {"host": options.host, "port": options.port}
    given |= {"tls_cert": options.tls_cert, "tls_key": options.tls_key}
    changed = {name: value for name, value in given.items() if value is not None}
    if not 0 <= changed.get("port", 0) <= 65535:
        raise SettingsError(f"--port {options.port}: ports go from 0 to 65535")

    if options.prepare:
        settings = load(options.config)
        prepare_experts(settings, list(settings.experts))

    def read() -> Settings:
        settings = _as_node(load(options.config), options.node)
        return settings.model_copy(update={"server": settings.server.model_copy(update=changed)})

    server.logs.configure(options.verbose, read().server.log_format)
    uvloop.run(serve_forever(read))
    return 0


def _as_node(settings: Settings, given: str | None) -> Settings:
    """Returns the settings with another listener for nodes. Raises SettingsError."""
    if given is None:
        return settings
    if settings.cluster is None:
        raise SettingsError("--node needs cluster in the configuration, with its secret and peers")
    try:
        address = Address.parse(given)
    except ValueError as error:
        raise SettingsError(f"--node: {error}") from error
    cluster = settings.cluster.model_copy(update={"host": address.host, "port": address.port})
    return settings.model_copy(update={"cluster": cluster})
