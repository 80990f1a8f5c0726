"""The customers' billing API: one table, of which the routes themselves and the OpenAPI document are made.

Owns: the table: what each route takes and answers, and which operation it is.
Does not know: how a request is taken apart (endpoints), who calls (billing_api), what the operations do.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Final

from gateway.edge.admin_answers import DAY
from gateway.edge.admin_bodies import is_id
from gateway.edge.admin_views import Data
from gateway.edge.alert_bodies import PutAlert
from gateway.edge.alert_operations import AlertOperations, UnknownAlert
from gateway.edge.autopay_bodies import AddFunds, ChangeAutopay
from gateway.edge.autopay_operations import AutopayOperations
from gateway.edge.billing_answers import ANSWERS
from gateway.edge.billing_operations import BillingOperations, summed
from gateway.edge.endpoints import PAGE, Ask, Endpoint, Parameter, Text, choice
from gateway.edge.openapi import document
from gateway.edge.usage_operations import COLUMNS, UsageOperations, usage_csv

BASE: Final = "/billing/v1"
_SINCE: Final = Parameter("since", DAY, "The first day (UTC)")
_UNTIL: Final = Parameter("until", DAY, "The day after the last (UTC)")
_BY: Final = choice("by", "all", "day", "product", "key", "project", meaning="Which column is summed up by")
FORMAT: Final = choice("format", "json", "csv", meaning="How it is answered; `Accept: text/csv` asks for CSV too")
_PAYING: Final = ("payment_refused", "provider_unavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingDesk:
    """All that a customer may see and do of its own account."""

    billing: BillingOperations
    usage: UsageOperations
    autopay: AutopayOperations
    alerts: AlertOperations


async def _openapi(_desk: BillingDesk, _ask: Ask) -> Data:
    return openapi()


async def _show_usage(desk: BillingDesk, ask: Ask) -> Data | Text:
    by, form = ask.choice(_BY), ask.choice(FORMAT)
    shown = await desk.usage.show_usage(ask.account, since=ask.query.get("since", ""), until=ask.query.get("until", ""))
    columns: tuple[str, ...] = COLUMNS
    if by != "all":
        shown["items"] = summed(shown["items"], by)
        columns = (by, "calls", "charged", "currency")
    return Text(usage_csv(shown, columns), "text/csv") if form == "csv" else shown


async def _list_charges(desk: BillingDesk, ask: Ask) -> Data:
    after, limit = ask.page
    return await desk.billing.list_charges(ask.account, after=after, limit=limit)


def _alert(ask: Ask) -> str:
    if not is_id(ask.parts["alert"]):
        raise UnknownAlert("no alert has an id of this form")
    return ask.parts["alert"]


ROUTES: Final[tuple[Endpoint[BillingDesk], ...]] = (
    Endpoint(method="GET", path="/openapi.json", summary="This document", deed=_openapi, answer="Document"),
    Endpoint(
        method="GET",
        path="/balance",
        summary="What you have, what of it is in use, what was spent this month, and your grants",
        deed=lambda desk, ask: desk.billing.show_balance(ask.account),
        answer="Balance",
    ),
    Endpoint(
        method="GET",
        path="/usage",
        summary="What was charged, by day, product, key and project",
        deed=_show_usage,
        answer="Usage",
        query=(_SINCE, _UNTIL, _BY, FORMAT),
    ),
    Endpoint(
        method="GET",
        path="/charges",
        summary="A page of charges and corrections with their line items, the newest first",
        deed=_list_charges,
        answer="ChargePage",
        query=PAGE,
    ),
    Endpoint(
        method="GET",
        path="/keys",
        summary="Your keys, their budgets and what they spent this month, without their secrets",
        deed=lambda desk, ask: desk.billing.list_keys(ask.account),
        answer="KeyPage",
    ),
    Endpoint(
        method="GET",
        path="/rate-card",
        summary="What everything costs you",
        deed=lambda desk, ask: desk.billing.show_rate_card(ask.account),
        answer="RateCard",
    ),
    Endpoint(
        method="GET",
        path="/autopay",
        summary="Your autopay",
        deed=lambda desk, ask: desk.autopay.show_autopay(ask.account),
        answer="Autopay",
    ),
    Endpoint(
        method="PATCH",
        path="/autopay",
        summary="Change your autopay",
        deed=lambda desk, ask: desk.autopay.change_autopay(ask.account, ask.body(ChangeAutopay), ask.operation.id),
        body=ChangeAutopay,
        answer="Autopay",
        problems=_PAYING,
    ),
    Endpoint(
        method="POST",
        path="/funds",
        summary="Make a page of the payment service's to pay, or to add a card, at",
        deed=lambda desk, ask: desk.autopay.add_funds(ask.account, ask.body(AddFunds), ask.operation.id),
        body=AddFunds,
        answer="Funds",
        status=201,
        problems=_PAYING,
    ),
    Endpoint(
        method="GET",
        path="/alerts",
        summary="Your alerts",
        deed=lambda desk, ask: desk.alerts.list_alerts(ask.account),
        answer="AlertPage",
    ),
    Endpoint(
        method="PUT",
        path="/alerts/{alert}",
        summary="Set an alert",
        deed=lambda desk, ask: desk.alerts.put_alert(ask.account, _alert(ask), ask.body(PutAlert)),
        body=PutAlert,
        answer="NewAlert",
        problems=("unknown_alert",),
    ),
    Endpoint(
        method="DELETE",
        path="/alerts/{alert}",
        summary="Take an alert away",
        deed=lambda desk, ask: desk.alerts.drop_alert(ask.account, _alert(ask)),
        answer="DroppedAlert",
        problems=("unknown_alert",),
    ),
    Endpoint(
        method="POST",
        path="/alerts/{alert}/test",
        summary="Tell every target of an alert that this is a test",
        deed=lambda desk, ask: desk.alerts.test_alert(ask.account, _alert(ask)),
        answer="TestedAlert",
        problems=("unknown_alert", "too_many_tests"),
    ),
)


def with_csv(ask: Ask, endpoint: Endpoint[BillingDesk], accepts: str) -> Ask:
    """The same, asking for CSV where the client accepts that and did not say otherwise."""
    if FORMAT not in endpoint.query or FORMAT.name in ask.query or "text/csv" not in accepts:
        return ask
    return replace(ask, query={**ask.query, FORMAT.name: "csv"})


@cache
def openapi() -> Data:
    """The billing API as an OpenAPI document."""
    return document(
        title="Billing API",
        description="Your own account: its credit, charges, keys and prices, autopay and alerts.",
        base=BASE,
        endpoints=ROUTES,
        answers=ANSWERS,
        token="An API key of the account.",  # noqa: S106 - told
        also=("key_disabled", "too_many_unknown_keys", "rate_limited"),
    )
