"""`coe service install`: the gateway as a unit of systemd."""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

from router.atomic_file import replace_file
from server.cli.arguments import Parent, add_verb
from server.config.settings import SettingsError, load

UNIT = """\
[Unit]
Description=Composition of Experts, {config}
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
{user}WorkingDirectory={folder}
Environment={state}
ExecStart={program} serve --prepare --config {config}
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
TimeoutStopSec={stop}
Restart=on-failure
RestartSec=5
LimitNOFILE=65536
NoNewPrivileges=yes
PrivateTmp=yes

[Install]
WantedBy={target}
"""
SYSTEM = Path("/etc/systemd/system")
NAME = re.compile(r"[A-Za-z0-9:_.@-]{1,200}")


def add_to(parent: Parent) -> None:
    verbs = parent.add_parser("service", help="run the gateway under systemd").add_subparsers(
        required=True, metavar="VERB"
    )
    made = add_verb(verbs, "install", install, "write a unit of systemd that serves a configuration")
    made.add_argument("--name", default="coe", help="of the unit; coe by default")
    made.add_argument("--user", help="whom it runs as, where root installs it; by default who owns the file")
    made.add_argument("--print", action="store_true", help="print the unit instead of writing it")


def install(options: argparse.Namespace) -> int:
    """Writes the unit where this user's systemd looks, the machine's for root. Raises SettingsError."""
    if not NAME.fullmatch(options.name):
        raise SettingsError(
            f"--name {options.name!r}: units are named in letters, digits and : _ . @ -; coe is the default"
        )
    settings = load(options.config)
    root = os.geteuid() == 0
    text = unit(
        options.config.resolve(),
        settings.state or Path(),
        round(settings.server.drain_s) + 30,
        (options.user or options.config.resolve().owner()) if root else None,
    )
    if options.print:
        print(text, end="")
        return 0
    folder = (
        SYSTEM if root else Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "systemd/user"
    )
    file = folder / f"{options.name}.service"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(file, text.encode(), mode=0o644)
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; --print shows the unit") from error
    systemctl = "systemctl" if root else "systemctl --user"
    print(f"wrote {file}")
    print(f"Next: {systemctl} daemon-reload && {systemctl} enable --now {options.name}")
    return 0


def unit(config: Path, state: Path, stop: int, user: str | None) -> str:
    """Writes the unit. ``stop``: seconds for a shutdown; ``user``: None for a unit of the user's own."""
    program = shutil.which("coe") or f"{sys.executable} -m server.cli"
    beside = Path(sys.executable).with_name("coe")
    return UNIT.format(
        config=_escaped(str(config)),
        folder=_escaped(str(config.parent)).replace('"', ""),
        state=_escaped(f"COE_STATE={state}"),
        program=_escaped(str(beside)) if beside.is_file() else program,
        stop=stop,
        user=f"User={user}\n" if user else "",
        target="multi-user.target" if user else "default.target",
    )


def _escaped(word: str) -> str:
    """Writes a word as units do: `%` begins a specifier, and blanks part words."""
    said = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{said}"' if set(said) & set(" \t'\"\\") else said
