"""The JSON schemas of what the admin API answers: every field of every answer, and no others.

Owns: the shapes, as data for the OpenAPI document.
Does not know: how the answers come about (operations/views and the operations make them; tests hold them against this).
"""

from typing import Final

from gateway.edge.operations.views import Data

TEXT: Final[Data] = {"type": "string"}
FLAG: Final[Data] = {"type": "boolean"}
COUNT: Final[Data] = {"type": "integer"}
USD: Final[Data] = {"type": "string", "pattern": r"^-?[0-9]+\.[0-9]{9}$"}
MOMENT: Final[Data] = {"type": "string", "format": "date-time"}
DAY: Final[Data] = {"type": "string", "format": "date"}
CURRENCY: Final[Data] = {"const": "USD"}
ANYTHING: Final[Data] = {"type": "object"}
OVERRIDES: Final[Data] = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            *({"type": kind} for kind in ("string", "integer", "boolean")),
            {"type": "array", "items": {"type": "string"}},
        ]
    },
}


def shape(**fields: Data) -> Data:
    """An object that has exactly these fields."""
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def perhaps(schema: Data) -> Data:
    """This, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def many(schema: Data) -> Data:
    """A list of these."""
    return {"type": "array", "items": schema}


def one_of(*words: str) -> Data:
    """One of these words."""
    return {"enum": list(words)}


def named(name: str) -> Data:
    """The schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Data:
    """A page of a list."""
    return shape(items=many(named(name)), next=perhaps(TEXT))


_ACCOUNT: Final[dict[str, Data]] = {
    "id": TEXT,
    "tier": TEXT,
    "rate_card": perhaps(TEXT),
    "overrides": OVERRIDES,
    "status": one_of("active", "suspended"),
    "balance": USD,
    "held": USD,
    "overdraft": USD,
    "available": USD,
    "debt": USD,
    "currency": CURRENCY,
    "open_holds": COUNT,
    "created_at": MOMENT,
}
_KEY: Final[dict[str, Data]] = {
    "id": TEXT,
    "account": TEXT,
    "name": TEXT,
    "project": perhaps(TEXT),
    "disabled": FLAG,
    "expires_at": perhaps(MOMENT),
    "products": perhaps(many(TEXT)),
    "monthly_budget": perhaps(USD),
    "billing": {"enum": ["manage", "read", "none"]},
    "spent": USD,
    "held": USD,
    "currency": CURRENCY,
    "created_at": MOMENT,
}
_DELIVERY: Final[dict[str, Data]] = {
    "id": TEXT,
    "channel": TEXT,
    "state": one_of("waiting", "dead"),
    "attempts": COUNT,
    "why": perhaps(TEXT),
    "created_at": MOMENT,
    "due_at": perhaps(MOMENT),
    "died_at": perhaps(MOMENT),
}
_ALERT: Final[dict[str, Data]] = {
    "id": TEXT,
    "kind": TEXT,
    "amount": perhaps(USD),
    "percent": perhaps(COUNT),
    "days": perhaps(COUNT),
    "currency": CURRENCY,
    "told": many(TEXT),
}
_TARGET: Final = shape(type=one_of("webhook", "slack", "email")) | {
    "properties": {"type": TEXT, "url": TEXT, "address": TEXT}
}
_NEW_TARGET: Final = _TARGET | {"properties": {**_TARGET["properties"], "secret": TEXT}}
_ITEMS: Final[dict[str, Data]] = {
    "Account": shape(**_ACCOUNT),
    "Key": shape(**_KEY),
    "Grant": shape(
        id=TEXT,
        kind=one_of("signup", "monthly", "purchase", "promotion", "goodwill", "correction"),
        amount=USD,
        remaining=USD,
        currency=CURRENCY,
        priority=COUNT,
        expires_at=perhaps(MOMENT),
        created_at=MOMENT,
    ),
    "Hold": shape(
        id=TEXT,
        amount=USD,
        currency=CURRENCY,
        product=TEXT,
        resource=perhaps(shape(kind=TEXT, id=TEXT)),
        key=TEXT,
        concurrency_class=TEXT,
        price_version=TEXT,
        created_at=MOMENT,
        expires_at=MOMENT,
    ),
    "Job": shape(
        kind=TEXT,
        id=TEXT,
        state=one_of("queued", "open", "settled", "released"),
        product=TEXT,
        call_id=TEXT,
        key=TEXT,
        held=USD,
        currency=CURRENCY,
        price_version=TEXT,
        rate_card=perhaps(TEXT),
        usage=perhaps(ANYTHING),
        created_at=MOMENT,
        deadline_at=perhaps(MOMENT),
        gone_since=perhaps(MOMENT),
        next_look_at=perhaps(MOMENT),
        place=perhaps(COUNT),
        upstream_id=perhaps(TEXT),
    ),
    "Delivery": shape(**_DELIVERY),
    "AuditLine": shape(
        id=TEXT,
        deed=TEXT,
        at=MOMENT,
        actor=TEXT,
        action=TEXT,
        account=perhaps(TEXT),
        operation=perhaps(TEXT),
        about=ANYTHING,
        outcome=TEXT,
    ),
    "Alert": shape(**_ALERT, to=many(_TARGET)),
    "Entry": shape(
        id=TEXT,
        kind=one_of("grant", "charge", "correction", "commitment", "grant_expiry"),
        amount=USD,
        balance=USD,
        currency=CURRENCY,
        operation=TEXT,
        at=MOMENT,
        data=ANYTHING,
    ),
}
_USED: Final = shape(
    day=DAY,
    product=perhaps(TEXT),
    key=TEXT,
    project=perhaps(TEXT),
    calls=COUNT,
    charged=USD,
    currency=CURRENCY,
)
_SUMS: Final = tuple(
    shape(**{by: perhaps(TEXT)}, calls=COUNT, charged=USD, currency=CURRENCY)
    for by in ("day", "product", "key", "project")
)

ANSWERS: Final[dict[str, Data]] = {
    **_ITEMS,
    **{f"{name}Page": page_of(name) for name in _ITEMS},
    "NewKey": shape(**_KEY, secret=TEXT),
    "Credits": shape(**_ACCOUNT, spent_this_month=USD, grants=many(named("Grant"))),
    "Correction": shape(entry=TEXT, call_id=TEXT, amount=USD, balance=USD, currency=CURRENCY),
    "RotatedKey": shape(**_KEY, secret=TEXT, replaces=TEXT, old_until=perhaps(MOMENT)),
    "EndedGrant": shape(entry=TEXT, grant=TEXT, amount=USD, balance=USD, currency=CURRENCY),
    "TakenBack": shape(account=TEXT, provider=TEXT, payment=TEXT, taken=USD, balance=USD, currency=CURRENCY),
    "Refunded": shape(entry=TEXT, refunds=TEXT, amount=USD, balance=USD, currency=CURRENCY),
    "Repriced": shape(
        account=TEXT,
        since=DAY,
        until=DAY,
        price_version=TEXT,
        rate_card=perhaps(TEXT),
        complete=FLAG,
        charges=COUNT,
        charged=USD,
        repriced=USD,
        difference=USD,
        currency=CURRENCY,
        items=many(shape(sku=TEXT, lines=COUNT, unpriced=COUNT, charged=USD, repriced=USD, difference=USD)),
    ),
    "ReleasedHold": shape(account=TEXT, hold=TEXT, released=FLAG),
    "SettledJob": shape(account=TEXT, job=named("Job"), found=TEXT, charged=perhaps(USD), currency=CURRENCY),
    "ReleasedJob": shape(account=TEXT, job=named("Job"), released=FLAG),
    "ShownDelivery": shape(**_DELIVERY, payload=ANYTHING),
    "Replayed": shape(account=TEXT, id=TEXT, replayed=FLAG),
    "Verified": shape(account=TEXT, ok=FLAG, drift=many(shape(what=TEXT, stored=TEXT, recomputed=TEXT))),
    "Autopay": shape(
        account=TEXT,
        enabled=FLAG,
        threshold=USD,
        target=USD,
        monthly_cap=perhaps(USD),
        paid_this_month=USD,
        currency=CURRENCY,
        provider=perhaps(TEXT),
        card=FLAG,
        state=one_of("idle", "charging", "failed", "disabled"),
        attempt=perhaps(TEXT),
        charging=perhaps(USD),
        failures=COUNT,
        why=perhaps(TEXT),
        retry_at=perhaps(MOMENT),
    ),
    "NewAlert": shape(**_ALERT, to=many(_NEW_TARGET)),
    "DroppedAlert": shape(account=TEXT, id=TEXT, dropped=FLAG),
    "TestedAlert": shape(account=TEXT, id=TEXT, delivery=TEXT),
    "Usage": shape(
        account=TEXT,
        since=DAY,
        until=DAY,
        items=many({"anyOf": [_USED, *_SUMS]}),
        total=shape(calls=COUNT, charged=USD),
        currency=CURRENCY,
    ),
    "Commitment": shape(
        account=TEXT,
        month=TEXT,
        committed=USD,
        charged=USD,
        missing=USD,
        currency=CURRENCY,
        schedule=many(shape(**{"from": TEXT, "amount": USD})),
        closing=perhaps(TEXT),
    ),
    "Funds": shape(account=TEXT, url=TEXT, provider=TEXT),
    "Document": ANYTHING,
}
