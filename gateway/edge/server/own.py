"""The gateway's own routes on a listener: what is answered here and never forwarded.

Owns: which paths are ours, and how one of our aiohttp applications answers a request of the customers' server.
Does not know: what the routes do, or anything of the path of a call.

The listeners' server is a low-level one; an ordinary `web.Application` (routes, middlewares, forms, cookies) answers
what is ours, so that pages and APIs are written in one way on both listeners, whose connections are guarded in one way.
Its answers are whole: no streams, files or sockets.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from aiohttp import web
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.errors import place_of
from gateway.edge.server.client import RequestClient
from gateway.pipeline.call import Answer, BodyRefused

_LINE_END: Final = re.compile(r"[\r\n\0]")
_LOGGER: Final = logging.getLogger("gateway.customers")
#: A request of ours that has not been answered by then has failed: its body does not come, or something is stuck.
_ANSWER_SECONDS_MAX: Final = 30.0


class OwnRoutes:
    """`async with OwnRoutes(app, prefixes)`: answers whatever is at one of the prefixes, or below it."""

    def __init__(
        self, app: web.Application, prefixes: Sequence[str], *, answer_seconds_max: float = _ANSWER_SECONDS_MAX
    ) -> None:
        self._app = app
        self._answer_seconds_max = answer_seconds_max
        self._exact = frozenset(prefixes)
        self._below = tuple(f"{prefix}/" for prefix in prefixes)

    async def __aenter__(self) -> Self:
        """Start the application."""
        self._app.on_startup.freeze()
        await self._app.startup()
        self._app.freeze()
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop the application."""
        await self._app.shutdown()
        await self._app.cleanup()

    def has(self, raw_path: str) -> bool:
        """Whether this path, as sent, is ours: then nothing at it is forwarded."""
        return raw_path.startswith(self._below) or raw_path in self._exact

    async def answer(self, client: RequestClient) -> Answer:
        """What the application answers; a fault of its own is a bare 500, one that takes too long a 408."""
        own = self._app._make_request(
            _invited(client),
            client.payload,
            client.connection,
            None,  # type: ignore[arg-type] # answers are whole: nothing is written by aiohttp
            client.task,
        )
        try:
            async with asyncio.timeout(self._answer_seconds_max):
                try:
                    return _whole(await self._app._handle(own))
                except web.HTTPException as error:
                    return _whole(error)
        except TimeoutError:
            return _whole(web.Response(status=408, text="The request took too long.\n"))
        except Exception as error:  # noqa: BLE001 - a fault of ours must not cut the customer's connection
            _LOGGER.error("%s", place_of(error))  # noqa: TRY400 - its text could hold what was sent
            return _whole(web.Response(status=500, text="Something went wrong here.\n"))


def _invited(client: RequestClient) -> RawRequestMessage:
    """The request's head. Who waits to be told to send the body is told so here: aiohttp would write it by itself."""
    message = client.message
    if "Expect" not in message.headers:
        return message
    with suppress(BodyRefused):  # it has left, and nobody will read the answer
        client.invite()
    headers = CIMultiDict(message.headers)
    del headers["Expect"]
    return message._replace(headers=CIMultiDictProxy(headers))


def _whole(response: web.StreamResponse) -> Answer:
    assert isinstance(response, web.Response), "our own answers are whole"
    headers = CIMultiDict(response.headers)
    for cookie in response.cookies.values():
        headers.add("Set-Cookie", cookie.output(header="")[1:])
    assert not any(_LINE_END.search(value) for value in headers.values()), "a value ends no line"
    body = response.body
    assert body is None or isinstance(body, bytes | bytearray), "our own answers are whole"
    return Answer(status=response.status, reason=response.reason or "", headers=headers, body=bytes(body or b""))
