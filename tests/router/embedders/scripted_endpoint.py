"""An OpenAI-compatible endpoint on a real socket that answers as a test says."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scripted:
    status: int = 200
    """0 hangs up."""
    body: Body = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    path: str
    body: Body
    authorization: str | None


@dataclass(slots=True)
class ScriptedEndpoint:
    """``answer`` is called in a thread for each request and may be changed at any time."""

    answer: Callable[[Call], Scripted]
    url: str = ""
    calls: list[Call] = field(default_factory=list)


def completion(text: str | None, finish_reason: str = "stop") -> Scripted:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return Scripted(body={"choices": [choice], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})


def failure(status: int, message: str, code: str | None = None, **headers: str) -> Scripted:
    body = {"error": {"message": message, "type": "x", "param": None, "code": code}}
    return Scripted(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def prompt_of(call: Call) -> str:
    """What the person of a chat completion says."""
    return str(call.body["messages"][-1]["content"])


@contextlib.contextmanager
def scripted(answer: Callable[[Call], Scripted]) -> Iterator[ScriptedEndpoint]:
    endpoint = ScriptedEndpoint(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            call = Call(self.path, body, self.headers["authorization"])
            endpoint.calls.append(call)
            said = endpoint.answer(call)
            if said.status == 0:
                self.close_connection = True
                return
            content = json.dumps(said.body).encode()
            self.send_response(said.status)
            for name, value in {**said.headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        endpoint.url = f"http://127.0.0.1:{server.server_port}"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield endpoint
        finally:
            server.shutdown()
            serving.join()
