"""Batches posted to a service of the operator's over HTTP: exported events, spans.

Owns: the connections, the time for an answer, what is said of one that is no success.
Does not know: what is in a batch, or whether it is posted again.
"""

import asyncio
from collections.abc import Mapping

import aiohttp

from gateway import __version__
from gateway.core.errors import GatewayError


class NotTaken(GatewayError):
    """The service has not taken a batch, or perhaps it has. `status` 0: nothing was answered. No secret is in it."""

    def __init__(self, why: str, status: int = 0) -> None:
        super().__init__(why)
        self.status = status


class Poster:
    """Posts to one URL with these headers; connections are kept."""

    def __init__(self, url: str, *, headers: Mapping[str, str], seconds_max: float) -> None:
        self._url = url
        self._headers = headers
        self._seconds_max = seconds_max
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return "<Poster>"

    async def post(self, body: bytes, headers: Mapping[str, str]) -> None:
        """2xx: it was taken, and the answer's body is nothing to us. NotTaken otherwise."""
        try:
            async with (
                asyncio.timeout(self._seconds_max),
                self._open().post(
                    self._url, data=body, headers={**self._headers, **headers}, allow_redirects=False
                ) as reply,
            ):
                reply.close()
                status = reply.status
        except TimeoutError:
            raise NotTaken(f"nothing within {self._seconds_max:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NotTaken(type(error).__name__) from None
        if not 200 <= status < 300:
            raise NotTaken(f"answered {status}", status)

    async def close(self) -> None:
        """Close the connections. Posting again opens new ones."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": f"credit-gateway/{__version__}"},
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session
