"""The customers' billing API: one table, of which the routes themselves and the OpenAPI document are made.

Owns: the table: what each route takes and answers, and which operation it is.
Does not know: how a request is taken apart (endpoints), who calls (billing_api), what the operations do.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

from gateway.edge.api.account_routes import for_owners
from gateway.edge.api.billing_answers import ANSWERS
from gateway.edge.api.endpoints import PAGE, Ask, Endpoint
from gateway.edge.api.openapi import document
from gateway.edge.operations.alerts import AlertOperations
from gateway.edge.operations.autopay import AutopayOperations
from gateway.edge.operations.billing import BillingOperations
from gateway.edge.operations.commitments import CommitmentOperations
from gateway.edge.operations.jobs import JobReading
from gateway.edge.operations.plans import PlanOperations, Upgrade
from gateway.edge.operations.usage import UsageOperations
from gateway.edge.operations.views import Data

BASE: Final = "/billing/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class BillingDesk:
    """All that a customer may see and do of its own account."""

    billing: BillingOperations
    usage: UsageOperations
    plan: PlanOperations
    jobs: JobReading
    autopay: AutopayOperations
    alerts: AlertOperations
    commitments: CommitmentOperations


async def _openapi(_desk: BillingDesk, _ask: Ask) -> Data:
    return openapi()


async def _list_charges(desk: BillingDesk, ask: Ask) -> Data:
    after, limit = ask.page
    return await desk.billing.list_charges(ask.account, after=after, limit=limit)


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
        path="/plan",
        summary="Your plan, and the one that it may become",
        deed=lambda desk, ask: desk.plan.show_plan(ask.account),
        answer="AccountPlan",
    ),
    Endpoint(
        method="POST",
        path="/upgrade",
        summary="Change your plan to the one that it may become on request, at once",
        deed=lambda desk, ask: desk.plan.upgrade(ask.account, ask.body(Upgrade), ask.operation.id, ask.actor),
        body=Upgrade,
        answer="AccountPlan",
    ),
    *for_owners(),
)


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
        also=("key_disabled", "not_with_this_key", "too_many_unknown_keys", "rate_limited"),
    )
