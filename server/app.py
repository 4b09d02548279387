"""HTTP application: the paths and their endpoints."""

import functools
from collections.abc import Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp

import server.anthropic.messages
import server.ollama.embedding
import server.ollama.generating
import server.ollama.listing
import server.openai.chat
import server.openai.completions
import server.openai.embeddings
import server.openai.scoring
import server.openai.tokenize
import server.responses.responses
import server.routes.batches
import server.routes.feedback
import server.routes.files
import server.routes.models
import server.routes.monitoring
import server.routes.operators.admin
import server.routes.operators.cluster
import server.routes.operators.live
import server.routes.operators.ui
import server.routes.operators.views
import server.routes.stored_responses
import server.routes.unserved
import server.routes.usage
from memory_tiers.errors import TiersError
from server.compose import Running
from server.error_table import error_response
from server.errors import BadRequest, GatewayError
from server.reload.reload import Reload
from server.routes.schemas import (
    CHAT,
    COMPLETIONS,
    COUNT_TOKENS,
    DETOKENIZE,
    EMBEDDINGS,
    ERRORS,
    MESSAGES,
    OLLAMA_CHAT,
    OLLAMA_EMBED,
    OLLAMA_EMBEDDINGS,
    OLLAMA_GENERATE,
    RERANK,
    RESPONSES,
    ROUTE,
    SCORE,
    TOKENIZE,
)
from server.services import NodeServices, Services

FAST_ENDPOINTS = {
    "/v1/chat/completions": server.openai.chat.chat_completions,
    "/v1/completions": server.openai.completions.completions,
    "/v1/messages": server.anthropic.messages.messages,
    "/v1/responses": server.responses.responses.create_response,
    "/v1/embeddings": server.openai.embeddings.embeddings,
    "/api/chat": server.ollama.generating.chat,
    "/api/generate": server.ollama.generating.generate,
    "/api/embed": server.ollama.embedding.embed,
}
"""Endpoints that a model answers, for ``server.transport.fast_path``."""


class Application(FastAPI):
    """FastAPI's application with what every request needs: as an attribute it is found at once, while what is
    in ``state`` is looked for elsewhere first."""

    services: Services


def create_app(gateway: Running, reload: Reload) -> FastAPI:
    """Makes the application of a running ``gateway``, which the caller starts and ends, and its ``reload``.
    What ``create_admin_app`` has is part of it unless that has a listener of its own."""
    services = gateway.services
    app = client_paths(services.version, operators=services.settings.server.admin_port is None)
    app.state.feed = gateway.feed
    app.state.responses = gateway.responses
    app.state.responses_endpoint = gateway.responses_endpoint
    app.state.batches = gateway.batches
    return _over(app, services, reload)


def create_admin_app(gateway: Running, reload: Reload) -> FastAPI:
    """Makes the application of ``server.admin_port``, for operators and monitoring."""
    services = gateway.services
    app = _app(services.version)
    app.state.feed = gateway.feed
    app.router.routes.extend(_admin_routes())
    return _over(app, services, reload)


def client_paths(version: str, *, operators: bool = True) -> Application:
    """Adds every path that clients have, and with ``operators`` theirs, over no services yet: enough for the
    OpenAPI document."""
    app = _app(version)
    app.router.routes.extend(_client_routes(operators=operators))
    return app


# An endpoint finds its services in the request's application, so the routes are made once and shared: making
# them, with a validator for each model of their schemas, takes a tenth of a second.


@functools.cache
def _admin_routes() -> Sequence[BaseRoute]:
    router = APIRouter(responses=ERRORS)
    router.add_api_route("/health", server.routes.models.health)
    # What the page asks of models, with a client's key, as on the clients' listener.
    router.add_api_route(
        "/v1/chat/completions", server.openai.chat.chat_completions, methods=["POST"], **CHAT
    )
    router.add_api_route("/v1/coe/route", server.openai.chat.explain_route, methods=["POST"], **ROUTE)
    router.add_api_route("/v1/models", server.routes.models.models)
    router.include_router(server.routes.usage.admin_router)
    _add_operators_paths(router)
    return router.routes


@functools.cache
def _client_routes(*, operators: bool) -> Sequence[BaseRoute]:
    router = APIRouter(responses=ERRORS)
    post = functools.partial(router.add_api_route, methods=["POST"])
    post("/v1/chat/completions", server.openai.chat.chat_completions, **CHAT)
    post("/v1/completions", server.openai.completions.completions, **COMPLETIONS)
    post("/v1/messages", server.anthropic.messages.messages, **MESSAGES)
    post("/v1/messages/count_tokens", server.anthropic.messages.count_tokens, **COUNT_TOKENS)
    post("/v1/embeddings", server.openai.embeddings.embeddings, **EMBEDDINGS)
    for path in ("/v1/rerank", "/v2/rerank"):
        post(path, server.openai.scoring.rerank, **RERANK)
    post("/v1/score", server.openai.scoring.score, **SCORE)
    router.include_router(server.routes.unserved.router)
    post("/v1/responses", server.responses.responses.create_response, **RESPONSES)
    post("/tokenize", server.openai.tokenize.tokenize, **TOKENIZE)
    post("/detokenize", server.openai.tokenize.detokenize, **DETOKENIZE)
    post("/api/chat", server.ollama.generating.chat, **OLLAMA_CHAT)
    post("/api/generate", server.ollama.generating.generate, **OLLAMA_GENERATE)
    post("/api/embed", server.ollama.embedding.embed, **OLLAMA_EMBED)
    post("/api/embeddings", server.ollama.embedding.embeddings, **OLLAMA_EMBEDDINGS)
    router.add_api_route("/", server.ollama.listing.running, include_in_schema=False)
    router.include_router(server.ollama.listing.router)
    post("/v1/coe/route", server.openai.chat.explain_route, **ROUTE)
    router.include_router(server.routes.models.router)
    router.include_router(server.routes.stored_responses.router)
    router.include_router(server.routes.feedback.router)
    router.include_router(server.routes.files.router)
    router.include_router(server.routes.batches.router)
    router.include_router(server.routes.usage.router)
    if operators:
        _add_operators_paths(router)
    return router.routes


def _add_operators_paths(router: APIRouter) -> None:
    router.include_router(server.routes.operators.admin.router)
    router.include_router(server.routes.operators.cluster.router)
    router.include_router(server.routes.operators.live.router)
    router.include_router(server.routes.operators.views.router)
    router.include_router(server.routes.operators.ui.page_router())
    router.include_router(server.routes.monitoring.router)


def _over(app: Application, services: NodeServices, reload: Reload) -> Application:
    app.services = services
    app.state.reload = reload
    return app


def _app(version: str) -> Application:
    # The page has a reference that needs no other host; FastAPI's own loads its scripts from one.
    app = Application(
        title="Composition of Experts",
        version=version,
        responses=ERRORS,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(GatewayError, _refuse)
    app.add_exception_handler(TiersError, _refuse)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(404, _not_found)
    app.add_exception_handler(405, _not_found)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(Exception, _refuse)  # is logged by the caller of the application
    return app


def with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Returns ``app`` with CORS: pages of ``origins`` may call from a browser, with their key and without
    cookies."""
    if not origins:
        return app
    return CORSMiddleware(
        app, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"]
    )


async def _refuse(request: Request, error: Exception) -> Response:
    return error_response(error, request.scope["path"])


async def _wrong_parameter(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    name = str(problem["loc"][-1])
    return error_response(BadRequest(f"{name}: {problem['msg']}.", name), request.scope["path"])


async def _not_found(request: Request, error: Exception) -> Response:
    path = request.scope["path"][:200]
    message = f"{request.method} {path} is not served here; GET /openapi.json lists what is."
    response = error_response(BadRequest(message), request.scope["path"])
    response.status_code = getattr(error, "status_code", 404)
    if response.status_code == 405:
        response.headers["allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """Lists the methods that the request's path takes: each of its routes knows its own alone."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route.methods or () for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    taken = {method for methods in found for method in methods}
    return sorted(taken | {"HEAD"} if "GET" in taken else taken)


async def _client_left(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # the client left while sending; no one reads this
