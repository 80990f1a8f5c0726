"""A visitor of the pages without a browser: cookies are kept, forms are sent as the page that was shown last has them.

Owns: how a form's token is found. Does not know: what any page is for.
"""

import html
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL


class Visitor:
    """`async with Visitor(url)`: everything below that URL. After a form it is where the answer sent it."""

    def __init__(self, url: str, *, headers: dict[str, str] | None = None) -> None:
        self.url = url
        self.status = 0
        self.headers: dict[str, str] = {}
        self.cookies: list[str] = []
        self.address = ""
        self.html = ""
        self._headers = headers or {}
        self.http: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), headers=self._headers)
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.http.close()

    async def see(self, path: str = "") -> str:
        """Look at a page; its text, as a browser shows it."""
        async with self.http.get(self.url + path) as reply:
            await self._took(reply)
        return self.text

    async def send(self, path: str, **fields: str) -> str:
        """Send a form with the token of the page that was shown last, unless another one is given."""
        return await self.send_fields(path, {"form_token": self.form_token, **fields})

    async def send_fields(
        self, path: str, fields: Mapping[str, str], *, headers: Mapping[str, str] | None = None
    ) -> str:
        """Send a form with just these fields."""
        async with self.http.post(self.url + path, data=fields, headers=headers) as reply:
            await self._took(reply)
        return self.text

    async def sign_in(self, key: str) -> str:
        """Sign in with a key or token; the page after it."""
        await self.see("/sign-in")
        return await self.send("/sign-in", secret=key)

    @property
    def form_token(self) -> str:
        """The token of the first form of the page."""
        found = re.search(r'name="form_token" value="([^"]+)"', self.html)
        return found[1] if found else ""

    @property
    def text(self) -> str:
        """The page without its tags."""
        bare = re.sub(r"<(script|style|title)\b.*?</\1>", " ", self.html.replace("<wbr>", ""), flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).split())

    @property
    def cookie(self) -> str:
        """The value of the site's cookie."""
        found = list(self.http.cookie_jar.filter_cookies(URL(self.url)).values())
        return found[0].value if found else ""

    async def _took(self, reply: aiohttp.ClientResponse) -> None:
        self.status, self.headers = reply.status, dict(reply.headers)
        self.cookies = reply.headers.getall("Set-Cookie", [])
        for earlier in reply.history:
            self.cookies = [*earlier.headers.getall("Set-Cookie", []), *self.cookies]
        self.address, self.html = reply.url.path_qs, await reply.text()
