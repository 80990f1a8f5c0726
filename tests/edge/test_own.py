"""The gateway's own routes on the customers' listener: answered here, never forwarded, as strict as any other."""

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest
from aiohttp import web

from gateway.edge.server.own import OwnRoutes
from gateway.edge.server.proxy import CustomerServer
from gateway.pipeline.http import HttpPipeline
from gateway.settings.runtime import Limits
from tests.harness import Running


async def test_what_is_ours_is_never_forwarded(gw: Running) -> None:
    """A path below a prefix of ours that no route of ours has is a 404, whatever key it carries."""
    for path in ("/billing/nothing", "/callbacks/nothing/there", "/callbacks"):
        async with gw.http.get(gw.url + path, headers={"Authorization": "whatever"}) as reply:
            assert reply.status == 404
    assert await gw.seen() == []


async def _form(request: web.Request) -> web.Response:
    name = str((await request.post())["name"])
    response = web.Response(status=201, text=f"{name} {request.query['q']} {request.match_info['id']}")
    response.set_cookie("a", "1", httponly=True)
    response.set_cookie("b", "2")
    return response


async def _away(_request: web.Request) -> web.Response:
    raise web.HTTPSeeOther("/own/there")


async def _fault(_request: web.Request) -> web.Response:
    raise RuntimeError("never shown")


async def _split(_request: web.Request) -> web.Response:
    return web.Response(headers={"X-Told": "a\r\nSet-Cookie: evil=1"})


class NothingBehind:
    """What a server asks of its pipeline when it stops."""

    @property
    def sessions(self) -> "NothingBehind":
        """None are open."""
        return self

    async def end_all(self) -> None:
        """Nothing to end."""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A customers' server with an application of three routes, and no pipeline behind it."""
    app = web.Application(client_max_size=1000)
    app.router.add_post("/own/{id}", _form)
    app.router.add_get("/own/away", _away)
    app.router.add_get("/own/fault", _fault)
    app.router.add_get("/own/split", _split)
    async with OwnRoutes(app, ["/own"]) as own:
        server = CustomerServer(cast("HttpPipeline", NothingBehind()), Limits(), own)
        listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        listening.close()
        await server.shutdown(1.0)


async def test_an_application_of_ours_has_forms_queries_paths_and_cookies(url: str) -> None:
    """What aiohttp offers a handler works, and the connection serves the next request."""
    async with aiohttp.ClientSession() as http:
        for _ in range(2):
            async with http.post(f"{url}/own/7?q=x", data={"name": "é"}) as reply:
                assert (reply.status, await reply.text()) == (201, "é x 7")
                assert sorted(reply.cookies) == ["a", "b"]
                assert reply.cookies["a"]["httponly"]


async def test_who_waits_to_be_told_to_go_on_is_told(url: str) -> None:
    """A client with `Expect: 100-continue` sends its form after the word, and its next request after the answer."""
    async with aiohttp.ClientSession() as http:
        for _ in range(2):
            async with http.post(f"{url}/own/7?q=x", data={"name": "n"}, expect100=True) as reply:
                assert (reply.status, await reply.text()) == (201, "n x 7")
        async with http.get(f"{url}/own/away", headers={"Expect": "a-miracle"}, allow_redirects=False) as reply:
            assert reply.status == 303


async def test_no_value_ends_a_line(url: str) -> None:
    """A handler that would repeat a client's line end in a field is a fault, and no second field is sent."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/own/split") as reply:
        assert (reply.status, reply.headers.getall("Set-Cookie", [])) == (500, [])


async def test_redirects_faults_and_large_bodies(url: str) -> None:
    """A redirect is answered as raised, a fault as a bare 500, a body beyond the application's bound as a 413."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{url}/own/away", allow_redirects=False) as reply:
            assert (reply.status, reply.headers["Location"]) == (303, "/own/there")
        async with http.get(f"{url}/own/fault") as reply:
            assert reply.status == 500
            assert "never shown" not in await reply.text()
        async with http.post(f"{url}/own/7?q=x", data={"name": "x" * 2000}) as reply:
            assert reply.status == 413
