"""Client of the operators' endpoints: asks a running gateway for its tiers, gives it orders, has it
reload."""

from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from memory_tiers.status import ExpertStatus
from memory_tiers.tiers import Tier
from server.operator_api import ClusterStatus, OperatorError, Reloaded, Snapshot, Verb

ANSWER_PATIENCE_S = 10.0
"""Seconds to wait for one answer."""
RELOAD_PATIENCE_S = 600.0
"""Seconds to wait for a reload, which reads the files of every expert and router."""
KEPT_S = 2.0
"""Seconds that an unused connection is kept: less than the server's, which would close it under a request."""

Model = TypeVar("Model")


class _ErrorDetail(BaseModel):
    message: str


class _ErrorBody(BaseModel):
    """OpenAI's error body."""

    error: _ErrorDetail


_SNAPSHOT = TypeAdapter(Snapshot)
_STATUS = TypeAdapter(ExpertStatus)
_CLUSTER = TypeAdapter(ClusterStatus)
_RELOADED = TypeAdapter(Reloaded)


class OperatorClient:
    """Client of one gateway. Every method raises OperatorError, in one line that says what to do."""

    def __init__(self, url: str, key: SecretStr | None = None) -> None:
        self._url = url.rstrip("/")
        self.key = key
        headers = {b"authorization": f"Bearer {key.get_secret_value().strip()}".encode()} if key else {}
        limits = httpx.Limits(keepalive_expiry=KEPT_S)
        self._http = httpx.Client(headers=headers, limits=limits)

    def __repr__(self) -> str:
        return f"<OperatorClient {self._url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def tiers(self) -> Snapshot:
        return self._ask("GET", "/v1/coe/tiers", _SNAPSHOT)

    def order(self, verb: Verb, expert: str, tier: Tier | None = None) -> ExpertStatus:
        """Gives an order and returns the expert's status just after; its progress shows in ``tiers``."""
        path = f"/v1/coe/experts/{quote(expert, safe='')}/{verb}"
        return self._ask("POST", path, _STATUS, {} if tier is None else {"tier": tier})

    def cluster(self) -> ClusterStatus:
        return self._ask("GET", "/v1/coe/cluster", _CLUSTER)

    def drain(self) -> ClusterStatus:
        """Has the node give away what only it holds, and then end."""
        return self._ask("POST", "/v1/coe/cluster/drain", _CLUSTER, {})

    def rebalance(self) -> ClusterStatus:
        """Has copies of experts spread evenly over the nodes."""
        return self._ask("POST", "/v1/coe/cluster/rebalance", _CLUSTER, {})

    def reload(self) -> Reloaded:
        """Has the gateway read its own configuration file again."""
        return self._ask("POST", "/v1/coe/reload", _RELOADED, patience_s=RELOAD_PATIENCE_S)

    def ask(self, path: str, answer: TypeAdapter[Model]) -> Model:
        """Gets what is at a path of the operators'."""
        return self._ask("GET", path, answer)

    def _ask(
        self,
        method: str,
        path: str,
        answer: TypeAdapter[Model],
        body: dict[str, str] | None = None,
        patience_s: float = ANSWER_PATIENCE_S,
    ) -> Model:
        try:
            response = self._http.request(method, self._url + path, json=body, timeout=patience_s)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise OperatorError(
                f"{self._url} is no address of a gateway; write it like http://127.0.0.1:8000"
            ) from error
        except httpx.TimeoutException as error:
            raise OperatorError(f"{self._url} does not answer within {patience_s:g} s") from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise OperatorError(
                f"cannot reach {self._url}: is `coe serve` running? ({why}); name another with --url"
            ) from error
        if response.is_error:
            raise OperatorError(_said(response))
        try:
            return answer.validate_json(response.content)
        except ValidationError as error:
            raise OperatorError(
                f"{self._url}{path} answered {response.status_code} with something else than asked for: "
                "is it a gateway of this version?"
            ) from error


def _said(response: httpx.Response) -> str:
    """Returns the error message of the gateway's answer."""
    try:
        message = _ErrorBody.model_validate_json(response.content).error.message
    except ValidationError:
        return f"{response.url} answered {response.status_code}: is it a gateway?"
    return f"{message} (COE_ADMIN_KEY has the key.)" if response.status_code == 401 else message
