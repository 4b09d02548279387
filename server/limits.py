"""Bounds on what a client may send."""

from starlette.requests import Request

from server.errors import BadRequest, TooLarge


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most ``limit`` bytes. Raises TooLarge without reading more than that."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise BadRequest("The content-length header is not a number.")
    if int(declared) > limit:
        raise TooLarge(f"The body has {declared} bytes; at most {limit} are taken.")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise TooLarge(f"The body has more than the {limit} bytes that are taken.")
        parts.append(part)
    return b"".join(parts)
