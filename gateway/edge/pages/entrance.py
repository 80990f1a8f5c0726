"""The entrance of a site: signing in with something secret, and out.

Owns: the form that asks for it, the limit on guesses, whom an address belongs to.
Does not know: what opens (`unlock` says that), or how a visit is ended for good (`leave`).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from gateway.edge.attempts import Attempts, asked_by
from gateway.edge.pages.site import Site
from gateway.edge.pages.visits import Visit
from gateway.ports import Clock

_SECRET_MAX: Final = 512


class Locked(Exception):
    """It does not open; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What stands there: the title, what to do, the name of what is asked for, what becomes of it."""

    title: str
    text: str
    label: str
    promise: str


class Entrance:
    """Puts `/sign-in` and `/sign-out` into a site.

    `unlock` answers whose visit begins (`who` and `by` of a `Visit`), or raises Locked.
    """

    def __init__(
        self,
        site: Site,
        sign: Sign,
        *,
        unlock: Callable[[str], Awaitable[tuple[str, str]]],
        leave: Callable[[Visit], Awaitable[None]],
        clock: Clock,
        trust_forwarded_for: bool,
    ) -> None:
        self._site = site
        self._sign = sign
        self._unlock = unlock
        self._leave = leave
        self._attempts = Attempts(clock)
        self._trust_forwarded_for = trust_forwarded_for
        site.add_page("/sign-in", self._page)
        site.add_act("/sign-in", self._sign_in, stale=self._again)
        site.add_act("/sign-out", self._sign_out)

    def ask(self) -> web.Response:
        """On to the entrance."""
        return self._site.go("/sign-in", self._site.visits.begin())

    async def _page(self, _request: web.Request, visit: Visit) -> web.Response:
        return self._site.go("", visit) if visit.who else self._show(visit)

    async def _sign_in(self, request: web.Request, visit: Visit, form: Mapping[str, str]) -> web.Response:
        address = asked_by(request.headers, request.remote or "", trust=self._trust_forwarded_for)
        if wait := self._attempts.begin(address):
            response = self._show(visit, f"Too many attempts. Try again in {wait} seconds.", status=429)
            response.headers["Retry-After"] = str(wait)
            return response
        secret = form.get("secret", "").strip()
        try:
            who, by = await self._unlock(secret if len(secret) <= _SECRET_MAX else "")
        except Locked as error:
            return self._show(visit, str(error), status=403)
        self._attempts.take_back(address)
        return self._site.go("", self._site.visits.begin(who, by))

    def _again(self, visit: Visit) -> web.Response:
        """The page was open for longer than a visit lasts, or is not the last one that was shown."""
        return self._show(visit, "This page was out of date. Send it once more.", status=403)

    async def _sign_out(self, _request: web.Request, visit: Visit, _form: Mapping[str, str]) -> web.Response:
        """The visit is over wherever its cookie may be."""
        if visit.who:
            await self._leave(visit)
        return self.ask()

    def _show(self, visit: Visit, problem: str = "", *, status: int = 200) -> web.Response:
        return self._site.show("sign_in.html", visit, status=status, sign=self._sign, problem=problem)
