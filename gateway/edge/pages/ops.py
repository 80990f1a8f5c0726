"""The operators' pages: accounts, what is refused, and the config in force, on the operators' listener.

Owns: signing in with an admin token, which page is where, which form does which operation, what a scope allows.
Does not know: how facts are chosen (ops_view) or laid out (templates), what the operations do (the admin API's).

A form does its operation under an id of its own: sent twice, it is done once.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from aiohttp import web

from gateway import __version__
from gateway.core.errors import LedgerRefused, OperationConflict, UnknownAccount
from gateway.edge.api.admin_routes import ROUTES
from gateway.edge.api.admin_tokens import AdminTokens, token_digest
from gateway.edge.operations.accounts import Operation, Operations, operation
from gateway.edge.operations.admin_bodies import ChangeAccount, ChangeKey, GiveGrant
from gateway.edge.operations.auditing import Auditor
from gateway.edge.operations.bodies import Invalid, Model
from gateway.edge.operations.fields import is_id
from gateway.edge.operations.jobs import JobOperations
from gateway.edge.operations.outbox import OutboxOperations
from gateway.edge.pages import billing_view, ops_view
from gateway.edge.pages.billing_funds import problem_of, read_form
from gateway.edge.pages.entrance import Entrance, Locked, Sign
from gateway.edge.pages.site import Site, Told
from gateway.edge.pages.visits import Visit, Visits
from gateway.edge.signed import signature, text_of
from gateway.observe.metrics import Metrics
from gateway.ports import Clock, Ledger, ResourceRef
from gateway.settings.runtime import Runtime

PATH: Final = "/admin/ui"
MENU: Final = (("", "Accounts"), ("/refusals", "Refusals"), ("/audit", "Audit"), ("/config", "Config"))
_PAGE_ACCOUNTS: Final = 50
_PAGE_ENTRIES: Final = 25
_SHOWN: Final = 100  # grants, keys, holds, jobs
_DELIVERIES_SHOWN: Final = 50
#: What a form is about: for the audit log.
_ABOUT: Final = ("key", "hold", "kind", "job", "delivery")
_ENDED_MAX: Final = 10_000
_SIGN: Final = Sign(
    title="Operations",
    text="Sign in with an admin token.",
    label="Admin token",
    promise="The token is compared and not kept: not in this browser, an address or a log.",
)
Do = Callable[[str, Mapping[str, str], Operation], Awaitable[str]]


def add_ops_pages(
    app: web.Application,
    *,
    ledger: Ledger,
    runtime: Runtime,
    clock: Clock,
    jobs: JobOperations,
    measured: Callable[[], Awaitable[Metrics]],
) -> None:
    """Put the operators' pages at `/admin/ui`, and the way there at `/admin`."""
    pages = OpsPages(ledger=ledger, runtime=runtime, clock=clock, jobs=jobs, measured=measured)
    for path in ("/admin", "/admin/"):
        app.router.add_get(path, pages.way)
    app.add_subapp(PATH, pages.site.app)


class OpsPages:
    """The pages of all accounts, seen by who has an admin token."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        runtime: Runtime,
        clock: Clock,
        jobs: JobOperations,
        measured: Callable[[], Awaitable[Metrics]],
    ) -> None:
        self._ledger = ledger
        self._runtime = runtime
        self._clock = clock
        self._measured = measured
        self._auditor = Auditor(ledger)
        self._tokens = AdminTokens(runtime)
        self._operations = Operations(ledger=ledger, runtime=runtime)
        self._jobs = jobs
        self._outbox = OutboxOperations(ledger)
        self._actors = {self._mark(digest): actor for digest, actor in self._tokens.known}
        self._ended: dict[str, int] = {}
        self._needs: dict[str, str] = {}
        # Visits end with this process, which remembers who signed out.
        visits = Visits(
            secret=runtime.key_pepper + secrets.token_hex(16), site="ops", path=PATH, clock=clock,
            seconds=runtime.pages.visit_seconds,
            secure=runtime.pages.secure_cookies or runtime.ops_tls is not None,
        )  # fmt: skip
        facts = {"brand": f"{runtime.pages.title} operations", "menu": MENU, "owner_is": "Signed in with"}
        self.site = Site(path=PATH, visits=visits, facts=facts)
        self._entrance = Entrance(
            self.site, _SIGN, unlock=self._unlock, leave=self._leave, clock=clock, trust_forwarded_for=False
        )
        for path, page in (
            ("", self._accounts),
            ("/refusals", self._refusals),
            ("/refusals/live", self._refusals_live),
            ("/audit", self._audit),
            ("/config", self._config),
            ("/accounts/{account}", self._account),
        ):
            self._see(path, page)
        for path, route, do in (
            ("/grant", "POST /accounts/{account}/grants", self._grant),
            ("/status", "PATCH /accounts/{account}", self._status),
            ("/keys", "PATCH /accounts/{account}/keys/{key}", self._key),
            ("/holds", "POST /accounts/{account}/holds/{hold}/release", self._release_hold),
            ("/jobs", "POST /accounts/{account}/jobs/{kind}/{job}/settle", self._end_job),
            ("/deliveries", "POST /accounts/{account}/deliveries/{delivery}/replay", self._replay),
        ):
            self._needs[path[1:]] = _scope_of(route)
            self._act(path, do)

    async def way(self, _request: web.Request) -> web.Response:
        """To the first page."""
        return self.site.go("")

    # ---- signing in and out

    async def _unlock(self, secret: str) -> tuple[str, str]:
        """The name of the token that was shown, and its mark."""
        if not self._tokens.any:
            raise Locked("There is no admin token in the config.")
        actor = self._tokens.actor(secret) if secret else None
        if actor is None:
            raise Locked("This is no admin token of this gateway.")
        return actor.name, self._mark(token_digest(secret))

    def _mark(self, digest: str) -> str:
        """What a cookie has of a token: nothing to try tokens against without the pepper."""
        return text_of(signature(self._runtime.key_pepper, "admin token", digest.encode()))

    async def _leave(self, visit: Visit) -> None:
        now = self._clock.now()
        self._ended = {name: expires for name, expires in self._ended.items() if expires > now}
        if len(self._ended) >= _ENDED_MAX:
            raise Told(503, "Not now", "Too many have signed out lately. Close the browser instead.")
        self._ended[visit.id] = visit.expires

    def _scopes(self, visit: Visit) -> frozenset[str]:
        """What the visit may do: nothing, where it is over or its token is not in the config any more."""
        actor = None if visit.id in self._ended else self._actors.get(visit.by)
        return actor.scopes if actor is not None else frozenset()

    # ---- who may see and do what

    def _see(self, path: str, see: Callable[[web.Request, Visit], Awaitable[web.Response]]) -> None:
        """A page for those who are signed in; others are asked to."""

        async def page(request: web.Request, visit: Visit) -> web.Response:
            return await see(request, visit) if "read" in self._scopes(visit) else self._entrance.ask()

        self.site.add_page(path, page)

    def _act(self, path: str, do: Do) -> None:
        """What a form of an account's page does, for those whose token has the scope. The page again, with the word."""

        async def act(request: web.Request, visit: Visit, form: Mapping[str, str]) -> web.Response:
            if "read" not in self._scopes(visit):
                return self._entrance.ask()
            if (scope := self._needs[path[1:]]) not in self._scopes(visit):
                raise Told(403, "Not with this token", f"This needs a token with the scope {scope}.")
            account = _account_of(request)
            back = f"/accounts/{account}"
            if form.get("sure") != "yes":
                raise Told(422, "Nothing was done", "Tick the box that says you mean it.", back=back)
            try:
                named = _named(form, path)
                word = await self._auditor.noted(
                    lambda: do(account, form, named),
                    actor=visit.who,
                    action=f"form {path}",
                    account=account,
                    operation=named.id,
                    about={name: form[name] for name in _ABOUT if name in form},
                )
            except UnknownAccount as error:
                raise web.HTTPNotFound from error
            except OperationConflict:
                raise Told(
                    422, "Nothing was done", "This form was sent before, with something else.", back=back
                ) from None
            except (Invalid, LedgerRefused) as error:
                raise Told(422, "Nothing was done", problem_of(error), back=back) from None
            return self.site.go(f"{back}?did={word}", visit)

        self.site.add_act(f"/accounts/{{account}}{path}", act)

    def _page(self, template: str, visit: Visit, here: str, **facts: Any) -> web.Response:
        scopes = self._scopes(visit)
        may = {name for name, scope in self._needs.items() if scope in scopes}
        return self.site.show(template, visit, here=here, owner=visit.who, may=may, **facts)

    # ---- pages

    async def _accounts(self, request: web.Request, visit: Visit) -> web.Response:
        """Accounts whose id has the text in it; one that is it exactly is shown at once."""
        text = request.query.get("q", "").strip().lower()[:64]
        after = request.query.get("after", "")[:64]
        found = await self._ledger.accounts_after(after, limit=_PAGE_ACCOUNTS + 1, containing=text)
        if text and found == [text]:
            return self.site.go(f"/accounts/{text}", visit)
        page = found[:_PAGE_ACCOUNTS]
        accounts = await asyncio.gather(*(self._ledger.account(each) for each in page))
        rows = [billing_view.standing(self._runtime, each) for each in accounts]
        following = page[-1] if len(found) > len(page) else ""
        return self._page("ops_accounts.html", visit, "", rows=rows, text=text, following=following)

    async def _account(self, request: web.Request, visit: Visit) -> web.Response:
        name, before = _account_of(request), request.query.get("before", "")
        try:
            picture = await ops_view.picture(
                self._ledger, self._runtime, name, clock=self._clock, before=before,
                entries=_PAGE_ENTRIES, jobs=_SHOWN, deliveries=_DELIVERIES_SHOWN,
            )  # fmt: skip
        except LedgerRefused as error:  # an unknown account, or no entry's id
            raise web.HTTPNotFound from error
        did = ops_view.DID.get(request.query.get("did", ""), "")
        return self._page("ops_account.html", visit, "", **picture, did=did, shown=_SHOWN, once=secrets.token_hex(12))

    async def _refusals(self, _request: web.Request, visit: Visit) -> web.Response:
        figures = ops_view.figures((await self._measured()).figures())
        return self._page("ops_refusals.html", visit, "/refusals", figures=figures)

    async def _refusals_live(self, _request: web.Request, visit: Visit) -> web.Response:
        figures = ops_view.figures((await self._measured()).figures())
        return self._page("ops_figures.html", visit, "/refusals", figures=figures)

    async def _audit(self, request: web.Request, visit: Visit) -> web.Response:
        try:
            lines = await self._ledger.audited(before=request.query.get("before", ""), limit=_PAGE_ENTRIES + 1)
        except LedgerRefused as error:  # no line's id
            raise web.HTTPNotFound from error
        page, more = lines[:_PAGE_ENTRIES], len(lines) > _PAGE_ENTRIES
        return self._page("ops_audit.html", visit, "/audit", lines=page, older=page[-1].id if more else "")

    async def _config(self, _request: web.Request, visit: Visit) -> web.Response:
        facts = ops_view.config(self._runtime, self._clock.now())
        return self._page("ops_config.html", visit, "/config", **facts, version=__version__)

    # ---- what forms do: each answers the word for it

    async def _grant(self, account: str, form: Mapping[str, str], named: Operation) -> str:
        fields = {name: form.get(name, "").strip() for name in ("kind", "amount", "note")}
        await self._operations.give_grant(account, self._body(GiveGrant, fields), named)
        return "granted"

    async def _status(self, account: str, form: Mapping[str, str], named: Operation) -> str:
        body = self._body(ChangeAccount, {"status": form.get("status", "")})
        await self._operations.change_account(account, body, named)
        return "suspended" if body.status == "suspended" else "activated"

    async def _key(self, account: str, form: Mapping[str, str], named: Operation) -> str:
        disabled = form.get("disabled") == "yes"
        await self._operations.change_key(
            account, form.get("key", ""), self._body(ChangeKey, {"disabled": disabled}), named
        )
        return "disabled" if disabled else "enabled"

    async def _release_hold(self, account: str, form: Mapping[str, str], _named: Operation) -> str:
        done = await self._operations.release_hold(account, form.get("hold", ""))
        return "released" if done["released"] else "over"

    async def _end_job(self, account: str, form: Mapping[str, str], _named: Operation) -> str:
        ref = ResourceRef(kind=form.get("kind", ""), id=form.get("job", ""))
        how = form.get("how", "")
        if how == "release":
            done = await self._jobs.release_job(account, ref)
            return "released" if done["released"] else "over"
        if how not in ("settle", "charge_hold"):
            raise Told(422, "Nothing was done", "Say how the job is to end.")
        done = await self._jobs.settle_job(account, ref, charge_hold=how == "charge_hold")
        return {"settled": "settled", "released": "released", "running": "running"}.get(done["found"], "over")

    async def _replay(self, account: str, form: Mapping[str, str], _named: Operation) -> str:
        done = await self._outbox.replay_delivery(account, form.get("delivery", ""))
        return "replayed" if done["replayed"] else "over"

    def _body(self, model: type[Model], fields: Mapping[str, Any]) -> Model:
        return read_form(model, fields, self._runtime, self._clock)


def _scope_of(route: str) -> str:
    """What the API wants for the same."""
    (scope,) = [each.scope for each in ROUTES if f"{each.method} {each.path}" == route]
    return scope


def _named(form: Mapping[str, str], path: str) -> Operation:
    """The operation of a form: what it does, and to which key, on one page as it was shown once."""
    once = form.get("once", "")[:64]
    return operation(f"page-{once}.{path.rpartition('/')[2]}.{form.get('key', '')[:64]}" if once else None)


def _account_of(request: web.Request) -> str:
    account = request.match_info["account"]
    if not is_id(account):
        raise web.HTTPNotFound
    return account
