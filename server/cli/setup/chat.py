"""`coe chat`: a conversation in the terminal, or one question out of a pipe."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import closing

from server.cli.arguments import Parent, add_verb
from server.cli.command_line import nearest
from server.cli.setup.conversation import Conversation
from server.config.settings import SettingsError, load
from server.operator_api import OperatorError

HELP = """\
/model NAME  ask another model    /models  what there is    /new  begin anew    /quit  or Ctrl-D leaves
Ctrl-C ends an answer."""


def add_to(parent: Parent) -> None:
    made = add_verb(parent, "chat", chat, "talk to a running gateway; it says who answers and why")
    made.add_argument(
        "model", nargs="?", metavar="MODEL", help="a composition or an expert; the first by default"
    )
    made.add_argument("--url", help="of the gateway; COE_URL, or where the configuration says it listens")


def chat(options: argparse.Namespace) -> int:
    """Talks until the end of the input. What is piped in is one question. The key is in COE_API_KEY. Raises
    OperatorError, SettingsError."""
    url = options.url or os.environ.get("COE_URL") or _address(options)
    with closing(Conversation(url, options.model, os.environ.get("COE_API_KEY"))) as conversation:
        if not sys.stdin.isatty():
            return _once(conversation, sys.stdin.read())
        return _talk(conversation, input)


def _address(options: argparse.Namespace) -> str:
    server = load(options.config).server
    if server.port == 0:
        raise SettingsError("server.port is 0, any free one: give --url, which coe serve printed")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104  # compared
    scheme = "http" if server.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{server.port}"


def _once(conversation: Conversation, question: str) -> int:
    if not question.strip():
        raise SettingsError("standard input is empty; pipe a question into coe chat")
    _print_answer(conversation, question)
    print(conversation.answered, file=sys.stderr)
    return 0


def _talk(conversation: Conversation, read: Callable[[str], str]) -> int:
    conversation.model = conversation.model or next(iter(conversation.models()), "")
    print(HELP)
    while True:
        try:
            said = read(f"{conversation.model}> ").strip()
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            print()
            continue
        if said == "/quit":
            return 0
        try:
            if said.startswith("/"):
                _obey(conversation, said)
            elif said:
                _print_answer(conversation, said)
                print(f"  {conversation.answered}")
        except KeyboardInterrupt:
            print(f"\n  ended; {conversation.answered}")
        except OperatorError as error:
            print(f"  {error}")


def _obey(conversation: Conversation, said: str) -> None:
    command, _, name = said.partition(" ")
    match command:
        case "/models":
            print("  " + ", ".join(conversation.models()))
        case "/model" if name in conversation.models():
            conversation.model = name
        case "/model":
            close = nearest(name, conversation.models())
            print(f"  no model {name!r}{close or '; /models lists them'}")
        case "/new":
            conversation.messages.clear()
        case _:
            print(HELP)


def _print_answer(conversation: Conversation, question: str) -> None:
    for piece in conversation.ask(question):
        print(piece, end="", flush=True)
    print()
