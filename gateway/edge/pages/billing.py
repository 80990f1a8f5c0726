"""The billing pages: what a customer sees of its account, and does about it, on the customers' listener.

Owns: signing in with an API key, which page is where, what is read for it.
Does not know: how facts are chosen (billing_view) or laid out (templates), what may be done with credit (operations).

A key is shown once, in the body of the form that signs in, and kept nowhere. Every request looks whether the key still
works: one that is disabled ends its visits with their next request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from aiohttp import web

from gateway.core.errors import REFUSALS, Code, LedgerRefused, UnknownAccount
from gateway.core.record import record
from gateway.edge.attempts import requests_of_keys
from gateway.edge.keys import identified
from gateway.edge.operations.alerts import AlertOperations
from gateway.edge.operations.autopay import AutopayOperations
from gateway.edge.operations.commitments import CommitmentOperations
from gateway.edge.operations.jobs import open_jobs
from gateway.edge.operations.plans import PlanOperations
from gateway.edge.pages import billing_view as view
from gateway.edge.pages.billing_funds import FundsPages
from gateway.edge.pages.billing_plan import PlanPages
from gateway.edge.pages.entrance import Entrance, Locked, Sign
from gateway.edge.pages.site import Site, Told
from gateway.edge.pages.spend import days_shown, spending
from gateway.edge.pages.visits import Visit, Visits
from gateway.edge.paying import Paying
from gateway.payments.billing_system import NAME as BILLING_SYSTEM
from gateway.ports import Account, Clock, Key, Ledger
from gateway.settings.runtime import Runtime

PATH: Final = "/billing"
_PAGE_ENTRIES: Final = 25
_HOLDS_SHOWN: Final = 20
_GRANTS_SHOWN: Final = 20
_KEYS_SHOWN: Final = 100
_JOBS_SHOWN: Final = 20
#: The pages in the order of their links: path, title.
MENU: Final = (
    ("", "Overview"),
    ("/charges", "Charges"),
    ("/keys", "Keys"),
    ("/prices", "Prices"),
    ("/funds", "Funds"),
    ("/alerts", "Alerts"),
)
_SIGN: Final = Sign(
    title="Billing",
    text="Sign in with an API key of your account to see its balance, charges and keys.",
    label="API key",
    promise="The key is used to find your account, and is not kept: not in this browser, an address or a log.",
)
_NOT_FOR_BILLING: Final = "This key is not for billing. Sign in with another one."
_UNKNOWN_KEY: Final = "No account has this key. Copy it again, whole."


def add_billing_pages(app: web.Application, *, ledger: Ledger, runtime: Runtime, paying: Paying, clock: Clock) -> None:
    """Put the billing pages at `/billing` of the customers' own routes."""
    app.add_subapp(PATH, BillingPages(ledger=ledger, runtime=runtime, paying=paying, clock=clock).site.app)


@record
class Shown:
    """The account that a request looks at, and its keys."""

    account: Account
    keys: tuple[Key, ...]

    def manages(self, visit: Visit) -> bool:
        """Whether the key that was shown may change what is set here."""
        return any(key.id == visit.by and key.billing == "manage" for key in self.keys)


See = Callable[[web.Request, Visit, Shown], Awaitable[web.Response]]
Act = Callable[[Visit, Shown, Mapping[str, str]], Awaitable[web.Response]]


class BillingPages:
    """The pages of all accounts, each seen by who has a key of it."""

    def __init__(self, *, ledger: Ledger, runtime: Runtime, paying: Paying, clock: Clock) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._clock = clock
        self._requests = requests_of_keys(clock, runtime.limits.billing_requests_per_minute_max)
        settings = runtime.pages
        visits = Visits(
            secret=runtime.key_pepper, accepted=runtime.key_peppers_accepted, site="billing", path=PATH,
            seconds=settings.visit_seconds, clock=clock,
            secure=settings.secure_cookies or runtime.customers_tls is not None,
        )  # fmt: skip
        facts = {"brand": settings.title, "contact": settings.contact, "menu": MENU, "owner_is": "Account"}
        self.site = Site(path=PATH, visits=visits, facts=facts)
        self._entrance = Entrance(
            self.site, _SIGN, unlock=self._unlock, leave=self._leave, clock=clock,
            trust_forwarded_for=runtime.trust_forwarded_for,
        )  # fmt: skip
        self.see("", self._overview)
        self.see("/live", self._of_its_account(self._live))
        self.see("/lately", self._of_its_account(self._lately))
        self.see("/charges", self._charges)
        self.see("/keys", self._keys)
        PlanPages(
            self, plans=PlanOperations(ledger=ledger, runtime=runtime), runtime=runtime, clock=clock,
            commitments=CommitmentOperations(ledger=ledger, clock=clock),
            pays_here=not paying.providers.keys() <= {BILLING_SYSTEM},
        )  # fmt: skip
        FundsPages(
            self, runtime=runtime, clock=clock, alerts=AlertOperations(ledger=ledger, runtime=runtime, clock=clock),
            autopay=AutopayOperations(ledger=ledger, runtime=runtime, paying=paying, clock=clock),
        )  # fmt: skip

    # ---- signing in and out

    async def _unlock(self, secret: str) -> tuple[str, str]:
        """The account of the key that was shown, and the key's id."""
        found = await identified(self._ledger, self._runtime.peppers, secret) if secret else None
        if found is None:
            raise Locked(_UNKNOWN_KEY)
        keys = await self._ledger.keys(found.account)
        if not self._opens(keys, found.key_id):
            closed = any(key.id == found.key_id and key.billing == "none" for key in keys)
            raise Locked(_NOT_FOR_BILLING if closed else REFUSALS[Code.KEY_DISABLED].message)
        return found.account, found.key_id

    async def _leave(self, visit: Visit) -> None:
        seconds = self.site.visits.seconds_left(visit)
        await self._ledger.use_once(account=visit.who, name=_over(visit), by="sign-out", seconds=seconds)

    def _opens(self, keys: Iterable[Key], key_id: str) -> bool:
        now_ms = int(self._clock.now() * 1000)
        return any(
            key.id == key_id and key.billing != "none" and view.key_state(key, now_ms) == "active" for key in keys
        )

    # ---- who may see what

    def see(self, path: str, see: See) -> None:
        """A page for those who are signed in; others are asked to."""

        async def page(request: web.Request, visit: Visit) -> web.Response:
            shown = await self._shown(visit)
            return self._entrance.ask() if shown is None else await see(request, visit, shown)

        self.site.add_page(path, page)

    def act(self, path: str, act: Act) -> None:
        """What a form does that those who are signed in send."""

        async def acting(_request: web.Request, visit: Visit, form: Mapping[str, str]) -> web.Response:
            shown = await self._shown(visit)
            if shown is None:
                return self._entrance.ask()
            if not shown.manages(visit):
                raise Told(403, "Not with this key", "It may read what is billed, and change nothing. Use another one.")
            return await act(visit, shown, form)

        self.site.add_act(path, acting)

    def go(self, path: str, visit: Visit) -> web.Response:
        """On to another page."""
        return self.site.go(path, visit)

    async def _shown(self, visit: Visit) -> Shown | None:
        """The account of a visit that is not over and whose key still works. The three reads leave in one write."""
        if not visit.who:
            return None
        if wait := self._requests.begin(f"{visit.who} {visit.by}"):
            raise Told(429, "Not so fast", f"Try again in {wait} seconds.", headers={"Retry-After": str(wait)})
        try:
            over, keys, account = await asyncio.gather(
                self._ledger.used(account=visit.who, name=_over(visit)),
                self._ledger.keys(visit.who),
                self._ledger.account(visit.who),
            )
        except UnknownAccount:
            return None
        return None if over or not self._opens(keys, visit.by) else Shown(account=account, keys=tuple(keys))

    def page(self, template: str, visit: Visit, shown: Shown, here: str, **facts: Any) -> web.Response:
        standing = view.standing(self._runtime, shown.account)
        manages = shown.manages(visit)
        return self.site.show(
            template, visit, here=here, owner=shown.account.id, standing=standing, manages=manages, **facts
        )

    # ---- pages

    async def _overview(self, _request: web.Request, visit: Visit, shown: Shown) -> web.Response:
        return self.page("overview.html", visit, shown, "", **await self._spent_and_held(shown))

    def _of_its_account(self, see: See) -> See:
        """A part of a page that is kept fresh: where another account is signed in meanwhile, its page is due anew."""

        async def part(request: web.Request, visit: Visit, shown: Shown) -> web.Response:
            if request.query.get("of", shown.account.id) != shown.account.id:
                return self.go("", visit)
            return await see(request, visit, shown)

        return part

    async def _live(self, _request: web.Request, visit: Visit, shown: Shown) -> web.Response:
        """The part of the overview that is kept fresh from second to second."""
        return self.page("credit.html", visit, shown, "")

    async def _lately(self, _request: web.Request, visit: Visit, shown: Shown) -> web.Response:
        """The part of the overview that is kept fresh now and then."""
        return self.page("lately.html", visit, shown, "", **await self._spent_and_held(shown))

    async def _spent_and_held(self, shown: Shown) -> dict[str, Any]:
        now, account = self._clock.now(), shown.account.id
        since, until = days_shown(now)
        spent, holds, jobs = await asyncio.gather(
            self._ledger.usage(account, since=since, until=until),
            self._ledger.holds(account),
            open_jobs(self._ledger, account, limit=_JOBS_SHOWN + 1),
        )
        names = view.key_names(shown.keys)
        lines = view.hold_lines(self._runtime, holds, names)
        titles = {name: product.title for name, product in self._runtime.products.items()}
        return {
            "spend": spending(spent, titles, now),
            "grants_shown": _GRANTS_SHOWN,
            "holds": lines[:_HOLDS_SHOWN],
            "holds_more": max(0, len(lines) - _HOLDS_SHOWN),
            "jobs": view.job_lines(self._runtime, jobs[:_JOBS_SHOWN], names),
            "jobs_more": len(jobs) > _JOBS_SHOWN,
            "now_ms": int(now * 1000),
        }

    async def _charges(self, request: web.Request, visit: Visit, shown: Shown) -> web.Response:
        before = request.query.get("before", "")
        try:
            entries = await self._ledger.entries(
                shown.account.id, before=before, limit=_PAGE_ENTRIES + 1, newest_first=True
            )
        except LedgerRefused:
            raise Told(404, "There is no such page", "The address is not one of ours.") from None
        page = entries[:_PAGE_ENTRIES]
        lines = view.entry_lines(self._runtime, page, view.key_names(shown.keys))
        older = page[-1].id if len(entries) > _PAGE_ENTRIES else ""
        return self.page("charges.html", visit, shown, "/charges", lines=lines, older=older, first=not before)

    async def _keys(self, _request: web.Request, visit: Visit, shown: Shown) -> web.Response:
        lines = view.key_lines(self._runtime, shown.keys, int(self._clock.now() * 1000))
        more = max(0, len(lines) - _KEYS_SHOWN)
        return self.page("keys.html", visit, shown, "/keys", lines=lines[:_KEYS_SHOWN], more=more)


def _over(visit: Visit) -> str:
    """The name that is used up when a visit is over."""
    return f"visit:{visit.id}"
