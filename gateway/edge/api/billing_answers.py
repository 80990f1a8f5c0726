"""The JSON schemas of what the customers' billing API answers: every field of every answer, and no others.

Owns: the shapes that the admin API does not have. Does not know: how the answers come about.
"""

from typing import Final

from gateway.edge.api.admin_answers import ANSWERS as OF_ADMINS
from gateway.edge.api.admin_answers import (
    COUNT,
    CURRENCY,
    FLAG,
    MOMENT,
    TEXT,
    USD,
    many,
    named,
    one_of,
    page_of,
    perhaps,
    shape,
)
from gateway.edge.operations.views import Data

_SHARED: Final = (
    "Grant",
    "Hold",
    "Key",
    "KeyPage",
    "Usage",
    "Job",
    "JobPage",
    "Autopay",
    "Commitment",
    "Funds",
    "Alert",
    "AlertPage",
    "NewAlert",
    "DroppedAlert",
    "TestedAlert",
    "Document",
)
_CREDITS: Final[Data] = OF_ADMINS["Credits"]["properties"]

_RATES: Final = many(shape(quota=COUNT, window_seconds=COUNT, per_model=FLAG))
_PLAN: Final = shape(
    tier=TEXT,
    title=TEXT,
    rate_card=TEXT,
    overdraft=USD,
    monthly_grant=perhaps(shape(amount=USD, days=perhaps(COUNT))),
    currency=CURRENCY,
    requests=_RATES,
    requests_per_key=_RATES,
    products=many(
        shape(
            product=TEXT,
            title=TEXT,
            models=perhaps(many(TEXT)),
            concurrency=perhaps(COUNT),
            queued_max=perhaps(COUNT),
            requests=_RATES,
        )
    ),
)

ANSWERS: Final[dict[str, Data]] = {
    **{name: OF_ADMINS[name] for name in _SHARED},
    "Balance": shape(**_CREDITS, holds=many(named("Hold"))),
    "Charge": shape(
        id=TEXT,
        kind=one_of("charge", "correction", "commitment"),
        at=MOMENT,
        charged=USD,
        balance=USD,
        currency=CURRENCY,
        product=perhaps(TEXT),
        key=perhaps(TEXT),
        call_id=perhaps(TEXT),
        upstream_id=perhaps(TEXT),
        price_version=perhaps(TEXT),
        rate_card=perhaps(TEXT),
        basis=perhaps(TEXT),
        late=FLAG,
        reason=perhaps(TEXT),
        items=many(shape(sku=TEXT, quantity=TEXT, unit=TEXT, unit_price=TEXT, amount=USD)),
    ),
    "AccountPlan": shape(
        account=TEXT, plan=perhaps(_PLAN), upgrade=perhaps(shape(by=one_of("payment", "request"), plan=_PLAN))
    ),
    "ChargePage": page_of("Charge"),
    "RateCard": shape(
        account=TEXT,
        tier=TEXT,
        rate_card=TEXT,
        price_version=TEXT,
        effective_from=MOMENT,
        currency=CURRENCY,
        items=many(
            shape(
                sku=TEXT,
                products=many(TEXT),
                included=FLAG,
                price=TEXT,
                per=TEXT,
                discount_percent=perhaps(TEXT),
                steps=many(shape(above=TEXT, unit=TEXT, unit_price=TEXT)),
            )
        ),
    ),
}
