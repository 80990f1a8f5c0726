"""A service behind a proxy that asks the gateway whether a call may pass (`nginx.conf`, `envoy.yaml`, `Caddyfile`).

The proxy hands it the call's hold. The service settles that by what it did, or releases it where it did nothing. It
listens on PORT; GATEWAY_URL, CREDIT_TOKEN.
"""

import os
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from gateway.client import CreditClient

CREDIT: Final = web.AppKey("credit", CreditClient)


async def render(request: web.Request) -> web.Response:
    """`POST /v1/renderings`: so many megapixels."""
    hold, credit = request.headers["X-Gateway-Hold"], request.app[CREDIT]
    try:
        megapixels = int((await request.json())["megapixels"])
    except (ValueError, KeyError, TypeError):
        await credit.release(hold)
        return web.json_response({"error": "say how many megapixels"}, status=422)
    receipt = await credit.settle(hold, {"megapixels": megapixels})
    return web.json_response({"megapixels": megapixels, "charged": str(receipt.charged)})


async def listed(request: web.Request) -> web.Response:
    """`GET /v1/renderings`, which is free: those of the account that asks."""
    return web.json_response({"account": request.headers["X-Gateway-Account"], "renderings": []})


def make_app(gateway_url: str, token: str) -> web.Application:
    """The service."""

    async def connected(app: web.Application) -> AsyncIterator[None]:
        async with CreditClient(gateway_url, token) as app[CREDIT]:
            yield

    app = web.Application()
    app.cleanup_ctx.append(connected)
    app.router.add_post("/v1/renderings", render)
    app.router.add_get("/v1/renderings", listed)
    return app


if __name__ == "__main__":
    made = make_app(os.environ["GATEWAY_URL"], os.environ["CREDIT_TOKEN"])
    web.run_app(made, host="127.0.0.1", port=int(os.environ["PORT"]))
