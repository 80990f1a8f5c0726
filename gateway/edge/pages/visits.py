"""Visits: who looks at the pages of a site, from signing in to signing out.

Owns: the cookie, what it says and for how long, and the token that every form of a visit carries.
Does not know: keys, admin tokens, what may be seen: whoever signs a visitor in says who it is, and checks it each time.

A cookie says whose visit it is, signed: it works at every worker, and nothing is stored. There is nothing in it that
its visitor does not see on the page; the key or token that was shown is not in it. Each sign-in is a new visit, so one
that somebody else began beforehand is worth nothing.
"""

import hmac
import secrets
from typing import Final

import orjson
from aiohttp import web

from gateway.core.record import record
from gateway.edge.signed import read_signed, signature, text_of, write_signed
from gateway.ports import Clock

_COOKIE_MAX: Final = 1024


@record
class Visit:
    """A browser that looks at our pages until `expires` (epoch seconds). `who` is "" until somebody signed in.

    `who` and `by` are whatever the site says: an account and the id of its key, the name and digest of a token.
    """

    id: str
    who: str
    by: str
    expires: int


class Visits:
    """The visits of one site, which has its pages at `path` and below."""

    def __init__(
        self,
        *,
        secret: str,
        accepted: tuple[str, ...] = (),
        site: str,
        path: str,
        secure: bool,
        seconds: int,
        clock: Clock,
    ) -> None:
        self._secret = secret
        self._accepted = (secret, *accepted)
        self._purpose = f"visit {site}"
        self._name = f"gateway_{site}"
        self._path = path
        self._secure = secure
        self._seconds = seconds
        self._clock = clock

    def of(self, request: web.Request) -> Visit:
        """The visit that the request belongs to, or a new one of nobody."""
        text = request.cookies.get(self._name, "")
        payload = read_signed(self._accepted, self._purpose, text) if 0 < len(text) <= _COOKIE_MAX else None
        if payload is None:
            return self.begin()
        version, visit, who, by, expires = orjson.loads(payload)
        if version != 1 or expires <= self._clock.now():
            return self.begin()
        return Visit(id=visit, who=who, by=by, expires=expires)

    def begin(self, who: str = "", by: str = "") -> Visit:
        """A new visit."""
        expires = int(self._clock.now()) + self._seconds
        return Visit(id=secrets.token_urlsafe(16), who=who, by=by, expires=expires)

    def keep(self, visit: Visit, response: web.Response) -> None:
        """Have the browser show the visit again with its next request."""
        payload = orjson.dumps([1, visit.id, visit.who, visit.by, visit.expires])
        response.set_cookie(
            self._name,
            write_signed(self._secret, self._purpose, payload),
            path=self._path,
            max_age=self.seconds_left(visit),
            httponly=True,
            samesite="Lax",
            secure=self._secure,
        )

    def seconds_left(self, visit: Visit) -> int:
        """How long the visit lasts at most, from now."""
        return max(1, visit.expires - int(self._clock.now()))

    def form_token(self, visit: Visit) -> str:
        """What a form of this visit carries: another site's page cannot know it."""
        return text_of(signature(self._secret, f"{self._purpose} form", visit.id.encode()))

    def is_form_of(self, visit: Visit, token: str) -> bool:
        """Whether a form came from a page of this visit."""
        return hmac.compare_digest(self.form_token(visit).encode(), token.encode("utf-8", "surrogateescape"))
