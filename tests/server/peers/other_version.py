"""``coe``, as a version before or after this one would have it speak to nodes: BY, then its own arguments.

-1 says nothing of what this version has added; 1 and more add a field to each message.
"""

import json
import sys
from typing import Any

from pydantic import BaseModel

from server.cli.main import main
from server.node import self_description
from server.peers import peer, wire

ADDED = {"NodeSnapshot": ("protocol", "gateway")}
"""Fields that this version of the protocol has added, by their messages."""


def speak(by: int) -> None:
    """Has all messages written as that version would."""
    plain = BaseModel.model_dump_json

    def written(message: BaseModel, **options: Any) -> str:
        tree = json.loads(plain(message, **options))
        if type(message).__module__ == wire.__name__:
            if by < 0:
                for name in ADDED.get(type(message).__name__, ()):
                    del tree[name]
            else:
                tree["of_a_later_version"] = {"by": by}
        return json.dumps(tree)

    BaseModel.model_dump_json = written  # type: ignore[method-assign,assignment]
    spoken = wire.PROTOCOL + by
    for module in (wire, peer, self_description):
        vars(module)["PROTOCOL"] = spoken


if __name__ == "__main__":
    speak(int(sys.argv[1]))
    sys.exit(main(sys.argv[2:]))
