"""The credit API: one table, of which the routes themselves and the OpenAPI document are made.

Owns: the table, the shapes of the answers. Does not know: who may use it (credit_api), what the operations do.
"""

from functools import cache
from typing import Final

from gateway.core.errors import Code
from gateway.edge.api.admin_answers import ANYTHING, COUNT, CURRENCY, FLAG, TEXT, USD, many, perhaps, shape
from gateway.edge.api.endpoints import Ask, Endpoint
from gateway.edge.api.openapi import document
from gateway.edge.operations.credit import CreditOperations
from gateway.edge.operations.credit_bodies import OpenHold, ReleaseHold, RenewHold, SettleHold
from gateway.edge.operations.views import Data

BASE: Final = "/credit/v1"
SCOPE: Final = "credit"
_ITEM: Final = shape(sku=TEXT, quantity=TEXT, unit=TEXT, unit_price=TEXT, amount=USD)
_SETTLED: Final = shape(
    hold=TEXT,
    account=TEXT,
    settled=FLAG,
    charged=USD,
    balance=perhaps(USD),
    currency=CURRENCY,
    late=FLAG,
    entry=perhaps(TEXT),
    price_version=TEXT,
    rate_card=TEXT,
    items=many(_ITEM),
)
ANSWERS: Final[dict[str, Data]] = {
    "Document": ANYTHING,
    "Hold": shape(
        id=TEXT,
        hold=TEXT,
        account=TEXT,
        key=TEXT,
        product=TEXT,
        route=TEXT,
        estimate=USD,
        held=USD,
        available=USD,
        currency=CURRENCY,
        price_version=TEXT,
        rate_card=TEXT,
        seconds=COUNT,
    ),
    "Renewed": shape(
        id=TEXT,
        hold=TEXT,
        seconds=COUNT,
        held=USD,
        available=perhaps(USD),
        charge=perhaps(_SETTLED),
    ),
    "Settled": _SETTLED,
    "Released": shape(id=TEXT, hold=TEXT, released=FLAG),
}
#: Why a call is not admitted.
REFUSALS: Final = (
    Code.UNAUTHORIZED,
    Code.KEY_DISABLED,
    Code.ACCOUNT_SUSPENDED,
    Code.NOT_ENTITLED,
    Code.INSUFFICIENT_CREDIT,
    Code.KEY_BUDGET_EXCEEDED,
    Code.RATE_LIMITED,
    Code.TOO_MANY_CONCURRENT,
    Code.INVALID_REQUEST,
    Code.UNKNOWN_MODEL,
    Code.UNPRICED_FIELD,
    Code.UNSUPPORTED,
    Code.BODY_TOO_LARGE,
    Code.TOO_MANY_UNKNOWN_KEYS,
)


async def _openapi(_desk: CreditOperations, _ask: Ask) -> Data:
    return openapi()


ENDINGS: Final[tuple[Endpoint[CreditOperations], ...]] = (
    Endpoint(
        method="POST",
        path="/holds/{hold}/settle",
        scope=SCOPE,
        summary="Charge what the call came to, once, and end its hold; one whose time was over is charged late",
        deed=lambda desk, ask: desk.settle(ask.parts["hold"], ask.body(SettleHold)),
        body=SettleHold,
        answer="Settled",
        problems=("unknown_hold", "unknown_account"),
    ),
    Endpoint(
        method="POST",
        path="/holds/{hold}/release",
        scope=SCOPE,
        summary="Give a hold back: nothing was delivered",
        deed=lambda desk, ask: desk.release(ask.parts["hold"]),
        body=ReleaseHold,
        answer="Released",
        problems=("unknown_hold", "unknown_account"),
    ),
    Endpoint(
        method="POST",
        path="/holds/{hold}/renew",
        scope=SCOPE,
        summary="Have a hold live on, never for less than it had left; or charge what was used and hold the next slice",
        deed=lambda desk, ask: desk.renew(ask.parts["hold"], ask.body(RenewHold)),
        body=RenewHold,
        answer="Renewed",
        problems=("unknown_hold", "hold_ended", "unknown_account"),
        refusals=REFUSALS,
    ),
)

ROUTES: Final[tuple[Endpoint[CreditOperations], ...]] = (
    Endpoint(
        method="GET", path="/openapi.json", scope=SCOPE, summary="This document", deed=_openapi, answer="Document"
    ),
    Endpoint(
        method="POST",
        path="/holds",
        scope=SCOPE,
        summary="Admit a call that is served elsewhere, and hold what it may cost",
        deed=lambda desk, ask: desk.open(ask.body(OpenHold), ask.operation),
        body=OpenHold,
        answer="Hold",
        status=201,
        problems=("unknown_account",),
        refusals=REFUSALS,
    ),
    *ENDINGS,
)


@cache
def openapi() -> Data:
    """The credit API as an OpenAPI document."""
    return document(
        title="Credit API",
        description="Credit held and charged for calls that are served elsewhere. Refusals are in the product's words.",
        base=BASE,
        endpoints=ROUTES,
        answers=ANSWERS,
        token="One of the config's admin_tokens with the scope credit.",  # noqa: S106 - told
        also=("insufficient_scope", "too_many_unknown_keys"),
    )
