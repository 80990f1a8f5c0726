"""The billing pages on which something is done: adding funds, autopay, alerts.

Owns: which form asks for which operation, and how its fields become what the operation takes.
Does not know: what the operations do (operations/autopay, operations/alerts), who may be here (billing).

What cannot be done is told on the page whose form asked for it. A form carries a name of its own: sent twice, it is
done once.
"""

import hashlib
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson
from aiohttp import web

from gateway.core.alerts import UNITS
from gateway.core.errors import GatewayError, LedgerRefused, LedgerUnavailable
from gateway.edge.operations.accounts import operation
from gateway.edge.operations.alert_bodies import PutAlert
from gateway.edge.operations.alerts import AlertOperations
from gateway.edge.operations.autopay import AutopayOperations
from gateway.edge.operations.autopay_bodies import AddFunds, ChangeAutopay
from gateway.edge.operations.bodies import Invalid, Model, Setting, read_body
from gateway.edge.pages import funds_view as view
from gateway.edge.pages.site import Told
from gateway.edge.pages.visits import Visit
from gateway.payments.billing_system import NAME as BILLING_SYSTEM
from gateway.ports import Account, Clock, PaymentRefused, PaymentUnknown
from gateway.settings.runtime import Runtime

#: What a page says after a form, by the word in its address.
_DID: Final[Mapping[str, str]] = {
    "autopay": "Autopay is set.",
    "dropped": "The alert is gone.",
    "tested": "A test is on its way to everybody whom the alert tells.",
}
_NOTHING: Final[Mapping[str, str]] = {}
#: What a page is told where nothing failed, as `failed` says it.
_WELL: Final[dict[str, Any]] = {"status": 200, "problem": "", "wrong": frozenset()}
#: The fields of a form, where they are called otherwise by what they become.
_FIELDS: Final = {"percent": "figure", "days": "figure", "amount": "figure", "to": "where"}
_AWAY: Final = "The payment service does not answer right now. Nothing was paid; try again in a minute."


class Shown(Protocol):
    """The account that is looked at."""

    @property
    def account(self) -> Account:
        """The account."""


class Room(Protocol):
    """What BillingPages offers the pages here."""

    def see(self, path: str, see: Callable[..., Any]) -> None:
        """Show this at a path, to those who are signed in."""

    def act(self, path: str, act: Callable[..., Any]) -> None:
        """Do this when a form is sent there by those who are signed in."""

    def page(
        self, template: str, visit: Visit, shown: Any, here: str, *, status: int = 200, **facts: Any
    ) -> web.Response:
        """A page with the menu around it."""

    def go(self, path: str, visit: Visit) -> web.Response:
        """On to another page."""


class FundsPages:
    """`/funds` and `/alerts`, and what is sent there."""

    def __init__(
        self, room: Room, *, autopay: AutopayOperations, alerts: AlertOperations, runtime: Runtime, clock: Clock
    ) -> None:
        self._room = room
        self._autopay = autopay
        self._alerts = alerts
        self._runtime = runtime
        self._clock = clock
        room.see("/funds", self._funds_page)
        room.act("/funds", self._add_funds)
        room.act("/funds/autopay", self._set_autopay)
        room.see("/alerts", self._alerts_page)
        room.act("/alerts", self._put_alert)
        room.act("/alerts/drop", self._drop_alert)
        room.act("/alerts/test", self._test_alert)

    # ---- funds and autopay

    async def _funds_page(self, request: web.Request, visit: Visit, shown: Shown) -> web.Response:
        return await self._funds(visit, shown, did=request.query.get("did", ""))

    async def _funds(
        self, visit: Visit, shown: Shown, *, did: str = "", form: Mapping[str, str] = _NOTHING, **failing: Any
    ) -> web.Response:
        autopay = await self._autopay.show_autopay(shown.account.id)
        settings = self._runtime.payments
        becomes = self._runtime.tiers.get(settings.upgrades.get(shown.account.plan.tier, ""))
        return self._room.page(
            "funds.html", visit, shown, "/funds", autopay=view.autopay(autopay), did=_DID.get(did, ""), form=form,
            once=secrets.token_hex(12), least=settings.amount_min, most=settings.amount_max,
            pays_here=autopay["provider"] not in (None, BILLING_SYSTEM), becomes=becomes.title if becomes else "",
            **_WELL | failing,
        )  # fmt: skip

    async def _add_funds(self, visit: Visit, shown: Shown, form: Mapping[str, str]) -> web.Response:
        """Make a page to pay at, and lead there: a link, for a form of ours may not lead to another site."""
        fields = {"amount": form.get("amount", "").strip()} if form.get("what") != "card" else {}
        try:
            body = self._body(AddFunds, fields)
            page = await self._autopay.add_funds(shown.account.id, body, named_of(form))
        except GatewayError as error:
            return await self._funds(visit, shown, form=form, **failed(error))
        return self._room.page("leave.html", visit, shown, "/funds", url=page["url"], amount=body.amount)

    async def _set_autopay(self, visit: Visit, shown: Shown, form: Mapping[str, str]) -> web.Response:
        cap = form.get("monthly_cap", "").strip()
        fields = {
            "enabled": form.get("enabled") == "yes",
            "threshold": form.get("threshold", "").strip(),
            "target": form.get("target", "").strip(),
            "monthly_cap": cap or None,
        }
        try:
            await self._autopay.change_autopay(shown.account.id, self._body(ChangeAutopay, fields), named_of(form))
        except GatewayError as error:
            return await self._funds(visit, shown, form=form, **failed(error))
        return self._room.go("/funds?did=autopay", visit)

    # ---- alerts

    async def _alerts_page(self, request: web.Request, visit: Visit, shown: Shown) -> web.Response:
        return await self._alerts_shown(visit, shown, did=request.query.get("did", ""))

    async def _alerts_shown(
        self,
        visit: Visit,
        shown: Shown,
        *,
        did: str = "",
        form: Mapping[str, str] = _NOTHING,
        made: Any = None,
        **failing: Any,
    ) -> web.Response:
        found = await self._alerts.list_alerts(shown.account.id)
        return self._room.page(
            "alerts.html", visit, shown, "/alerts", alerts=[view.alert(each) for each in found["items"]],
            did=_DID.get(did, ""), form=form, once=secrets.token_hex(12), kinds=view.ALERT_KINDS, made=made,
            mails=self._runtime.smtp is not None, **_WELL | failing,
        )  # fmt: skip

    async def _put_alert(self, visit: Visit, shown: Shown, form: Mapping[str, str]) -> web.Response:
        """Set an alert; the secret of a new webhook is on the page that answers, and never again."""
        kind, where = form.get("kind", ""), form.get("where", "").strip()
        field = {"usd": "amount", "percent": "percent", "days": "days"}.get(UNITS.get(kind, ""))
        figure: Any = form.get("figure", "").strip()
        if field in ("percent", "days"):
            figure = int(figure) if figure.isdecimal() and len(figure) < 4 else figure
        how = form.get("how", "")
        to = {"type": how, ("address" if how == "email" else "url"): where}
        try:
            body = self._body(PutAlert, {"kind": kind, "to": [to], **({field: figure} if field else {})})
            name = named_of(form)
            made = await self._alerts.put_alert(shown.account.id, name, body, operation(name, "page:"))
        except GatewayError as error:
            return await self._alerts_shown(visit, shown, form=form, **failed(error))
        return await self._alerts_shown(visit, shown, made=made)

    async def _drop_alert(self, visit: Visit, shown: Shown, form: Mapping[str, str]) -> web.Response:
        try:
            await self._alerts.drop_alert(shown.account.id, form.get("alert", ""))
        except LedgerRefused as error:
            return await self._alerts_shown(visit, shown, **failed(error))
        return self._room.go("/alerts?did=dropped", visit)

    async def _test_alert(self, visit: Visit, shown: Shown, form: Mapping[str, str]) -> web.Response:
        try:
            await self._alerts.test_alert(shown.account.id, form.get("alert", ""), operation(named_of(form), "page:"))
        except LedgerRefused as error:
            return await self._alerts_shown(visit, shown, **failed(error))
        return self._room.go("/alerts?did=tested", visit)

    def _body(self, model: type[Model], fields: Mapping[str, Any]) -> Model:
        return read_form(model, fields, self._runtime, self._clock)


def read_form(model: type[Model], fields: Mapping[str, Any], runtime: Runtime, clock: Clock) -> Model:
    """What a form asks, checked as the APIs check it. Raises Invalid."""
    return read_body(model, orjson.dumps(dict(fields)), Setting(runtime=runtime, now_ms=int(clock.now() * 1000)))


def named_of(form: Mapping[str, str]) -> str:
    """The operation of a form: what it asks, on one page as it was shown once. Whoever goes back and asks for something
    else gets that.
    """
    if not form.get("once"):
        return f"page-{secrets.token_hex(12)}"
    asked = orjson.dumps(sorted(item for item in form.items() if item[0] != "form_token"))
    return f"page-{hashlib.sha256(asked).hexdigest()[:24]}"


def failed(error: GatewayError) -> dict[str, Any]:
    """What the page says that a form which could not be done comes back with: why, and which fields are wrong."""
    wrong = (
        {part for each in error.problems for part in each.pointer.split("/")} if isinstance(error, Invalid) else set()
    )
    wrong |= {field for part, field in _FIELDS.items() if part in wrong}
    return {"status": 422, "problem": problem_of(error), "wrong": frozenset(wrong)}


def problem_of(error: GatewayError) -> str:
    """What is wrong, for people."""
    match error:
        case LedgerUnavailable():
            raise error  # it is told as for every page
        case PaymentUnknown():
            return _AWAY
        case Invalid():
            return " ".join(f"{_field(each.pointer)}{each.detail}." for each in error.problems)
        case LedgerRefused() | PaymentRefused():
            return str(error)
    raise Told(500, "Something went wrong here", "It was not your fault. Reload, or try again later.") from error


def _field(pointer: str) -> str:
    """The name of a field, as the form has it."""
    name = pointer.rpartition("/")[2]
    return f"{name.replace('_', ' ').capitalize()}: " if name.replace("_", "").isalpha() else ""
