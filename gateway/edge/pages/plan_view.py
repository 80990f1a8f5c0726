"""What the pages show of plans, made of what operations/plans and operations/commitments answer.

Owns: how two plans are set beside each other, in words; how far a commitment is. Pure.
Does not know: the operations, how it is laid out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.core.money import Nanos, parse_usd
from gateway.core.record import record
from gateway.edge.pages.billing_view import Share, share
from gateway.edge.pages.wording import span, spoken, usd_short

_NOT: Final = "not included"
_INCLUDED: Final = "included"
_NONE: Final = "no"
_UNLIMITED: Final = "no limit"
_EVERY: Final = {1: "a second", 60: "a minute", 3_600: "an hour", 86_400: "a day"}
Terms = Mapping[str, Any]


@record
class Difference:
    """What one plan gives and the other does not, or not as much of. `new`: a product that was not there."""

    what: str
    now: str
    then: str
    new: bool


@record
class CommitmentLine:
    """What an account commits to in a month, and how much of it was charged; what it commits to later on."""

    month: str
    committed: Nanos
    charged: Nanos
    missing: Nanos
    reached: Share
    later: tuple[tuple[str, Nanos], ...]


def commitment(shown: Terms) -> CommitmentLine | None:
    """From what operations/commitments answers; None where nothing is committed to."""
    committed, charged = parse_usd(shown["committed"]), parse_usd(shown["charged"])
    later = tuple(
        (each["from"], parse_usd(each["amount"])) for each in shown["schedule"] if each["from"] > shown["month"]
    )
    if not committed and not later:
        return None
    return CommitmentLine(
        month=shown["month"],
        committed=committed,
        charged=charged,
        missing=parse_usd(shown["missing"]),
        reached=share(charged, committed),
        later=later,
    )


@record
class UpgradeLine:
    """The plan that an account may become: by `payment` or `request`, and what is different there."""

    tier: str
    title: str
    by: str
    differences: tuple[Difference, ...]


def included(shown: Terms) -> tuple[tuple[str, str], ...]:
    """What the account's plan gives it, in words: from what operations/plans answers."""
    plan = shown["plan"]
    if plan is None:
        return ()
    products = [(each["title"], _product(each)) for each in plan["products"]]
    return (*sorted(products), *((what, said) for what, said in _of_account(plan) if said not in (_NONE, _UNLIMITED)))


def upgrade(shown: Terms) -> UpgradeLine | None:
    """From what operations/plans answers."""
    found, plan = shown["upgrade"], shown["plan"]
    if found is None or plan is None:
        return None
    following = found["plan"]
    return UpgradeLine(
        tier=following["tier"], title=following["title"], by=found["by"], differences=differences(plan, following)
    )


def differences(plan: Terms, following: Terms) -> tuple[Difference, ...]:
    """What the one plan has otherwise than the other: products that are new first."""
    now, then = ({each["product"]: each for each in terms["products"]} for terms in (plan, following))
    titles = {name: each["title"] for name, each in (now | then).items()}
    rows = [(title, _product(now.get(name)), _product(then.get(name))) for name, title in titles.items()]
    rows += [(what, old, new) for (what, old), (_, new) in zip(_of_account(plan), _of_account(following), strict=True)]
    rows.append(("Prices", spoken(plan["rate_card"]), spoken(following["rate_card"])))
    found = [Difference(what=what, now=old, then=new, new=old == _NOT) for what, old, new in rows if old != new]
    return tuple(sorted(found, key=lambda each: not each.new))


def _of_account(plan: Terms) -> tuple[tuple[str, str], ...]:
    """What a plan gives beside its products."""
    overdraft, grant = parse_usd(plan["overdraft"]), plan["monthly_grant"]
    given = _NONE
    if grant is not None:
        lasting = f"for {grant['days']} days" if grant["days"] else "until the month is over"
        given = f"{usd_short(parse_usd(grant['amount']))}, good {lasting}"
    return (
        ("Credit each month", given),
        ("May go below zero", usd_short(overdraft) if overdraft else _NONE),
        ("All requests together", _rates(plan["requests"]) or _UNLIMITED),
        ("Requests of each key", _rates(plan["requests_per_key"]) or _UNLIMITED),
    )


def _product(share: Terms | None) -> str:
    """What a plan gives of a product: "200 at once, 10,000 waiting"."""
    if share is None:
        return _NOT
    parts = []
    if share["concurrency"] is not None:
        waiting = f", {share['queued_max']:,} waiting" if share["queued_max"] else ""
        parts.append(f"{share['concurrency']:,} at once{waiting}")
    if share["requests"]:
        parts.append(_rates(share["requests"]))
    if share["models"] is not None:
        parts.append(f"{len(share['models'])} models")
    return "; ".join(parts) or _INCLUDED


def _rates(rates: Sequence[Terms]) -> str:
    """Limits of requests: "30 requests a minute for each model"."""
    words = []
    for rate in rates:
        window = rate["window_seconds"]
        every = _EVERY.get(window) or f"in {span(window)}"
        words.append(f"{rate['quota']:,} requests {every}{' for each model' if rate['per_model'] else ''}")
    return "; ".join(words)
