"""A request that goes on when its client was answered: the line again, with nobody attached."""

from starlette.requests import Request
from starlette.types import Send

from server.exchange.dialect import Dialect
from server.exchange.exchange import Exchange
from server.transport.disconnect import Disconnect


class Detached(Exchange):
    """In the place of ``exchange``, whose right to run and whose id it takes over: so the request is let in
    and counted once."""

    def __init__(self, exchange: Exchange, raw: bytes, dialect: Dialect, hear: Send) -> None:
        """``raw``: the body that ``exchange`` read. ``hear``: gets the answer."""
        super().__init__(Request(exchange.request.scope), dialect)
        self.disconnect = Disconnect()  # that never comes
        self.headers_out = dict(exchange.headers_out)
        self.admission, exchange.admission = exchange.admission, None
        self._raw = raw
        self._hear = hear

    async def run(self) -> None:
        """To its end, or until it is cancelled; then it has given back all it held. Raises nothing else."""
        await self(self.request.scope, self.request.receive, self._hear)

    async def _admit(self, send: object) -> bytes:
        return self._raw
