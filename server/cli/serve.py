"""``coe serve``: serves a configuration over HTTP."""

import argparse
import signal
from pathlib import Path

from pydantic import ValidationError

from server.cli.arguments import Parent, add_verb
from server.cli.experts import prepare_experts
from server.config.cluster import Address, ClusterConfig
from server.config.settings import Settings, SettingsError, load


def add_to(parent: Parent) -> None:
    made = add_verb(parent, "serve", serve, "serve a configuration over HTTP")
    made.add_argument("--host", help="address to listen on, instead of the configuration's")
    made.add_argument(
        "--port", type=int, help="port to listen on, instead of the configuration's; 0 takes a free one"
    )
    made.add_argument("--prepare", action="store_true", help="first prepare experts that are not prepared")
    made.add_argument("--tls-cert", type=Path, help="certificate for HTTPS, instead of the configuration's")
    made.add_argument("--tls-key", type=Path, help="key of --tls-cert, instead of the configuration's")
    made.add_argument(
        "--node", metavar="HOST:PORT", help="address for nodes, instead of cluster.host and port"
    )
    made.add_argument("--peers", metavar="LIST", help="nodes, with commas between, instead of cluster.peers")
    made.add_argument("--reached-at", metavar="HOST:PORT", help="where nodes reach it, for cluster.address")
    made.add_argument("--drained", type=Path, metavar="FILE", help="make this file once it was drained")
    made.add_argument("--gateway", action="store_true", help="have no engines: the nodes compute")
    made.add_argument("--secret-file", type=Path, help="file with the secret, instead of cluster.secret")
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

    if options.prepare and not options.gateway:
        settings = load(options.config)
        prepare_experts(settings, list(settings.experts), options.config)

    def read() -> Settings:
        settings = _as_node(load(options.config), options)
        return settings.model_copy(update={"server": settings.server.model_copy(update=changed)})

    server.logs.configure(options.verbose, read().server.log_format)
    uvloop.run(serve_forever(read))
    return 0


def _as_node(settings: Settings, options: argparse.Namespace) -> Settings:
    """Returns the settings with what the options say of nodes. Raises SettingsError."""
    changes: dict[str, object] = {}
    if options.peers is not None:
        changes["peers"] = [each.strip() for each in options.peers.split(",") if each.strip()]
    if options.reached_at is not None:
        changes["address"] = options.reached_at
    if options.secret_file is not None:
        changes["secret"] = _secret_in(options.secret_file)
    if options.node is not None:
        changes |= _listener(options.node)
    if options.drained is not None:
        changes["drained"] = options.drained.absolute()
    if options.gateway:
        changes["gateway"] = True
    if not changes:
        return settings
    if settings.cluster is None and "secret" not in changes:
        raise SettingsError(
            "--node, --peers and --gateway need cluster in the configuration, with its secret, or "
            "--secret-file"
        )
    before = {} if settings.cluster is None else dict(settings.cluster)
    try:
        cluster = ClusterConfig(**before | changes)
    except ValidationError as error:
        first = error.errors()[0]
        raise SettingsError(f"cluster.{first['loc'][0]}: {first['msg']}") from error
    return settings.model_copy(update={"cluster": cluster})


def _listener(given: str) -> dict[str, object]:
    try:
        address = Address.parse(given)
    except ValueError as error:
        raise SettingsError(f"--node: {error}") from error
    return {"host": address.host, "port": address.port}


def _secret_in(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--secret-file {file}: cannot be read: {error}") from error
