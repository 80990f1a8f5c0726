"""What the billing pages show, made of the ledger's records and the config.

Owns: which facts stand on a page and in what order. Pure: no ledger, no HTTP, no clock.
Does not know: how they are worded (wording) or laid out (templates).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gateway.core.errors import Code, Refused
from gateway.core.money import ZERO, Nanos
from gateway.core.overrides import Value, shown
from gateway.core.record import record
from gateway.edge.operations.jobs import OpenJob
from gateway.pipeline.refusals import worded
from gateway.ports import Account, Entry, Hold, Key, Resource
from gateway.settings.overriding import tier_of
from gateway.settings.overview import price_table
from gateway.settings.plans import Tier
from gateway.settings.runtime import Runtime

_CREDIT_KINDS: Final = {"signup": "Sign-up credit", "purchase": "Purchase", "correction": "Correction"}


@record
class Refusing:
    """Why calls are refused right now, as the API says it: each (status, sentence) that a product uses."""

    code: str
    said: tuple[tuple[int, str], ...]


@record
class Standing:
    """An account's credit. `refusing` is None where calls are served."""

    account: Account
    tier: str
    overdraft: Nanos
    available: Nanos
    refusing: Refusing | None
    all_in_use: bool
    may_upgrade: bool
    overrides: tuple[tuple[str, str], ...] = ()


def standing(runtime: Runtime, account: Account) -> Standing:
    """How the account stands: the same guards, in the same order, as for a call."""
    tier = tier_of(runtime.tiers, account.plan)
    overdraft = tier.overdraft if tier is not None else ZERO
    available = Nanos(account.balance - account.held + overdraft)
    code = None
    if account.status != "active":
        code = Code.ACCOUNT_SUSPENDED
    elif available <= 0:
        code = Code.INSUFFICIENT_CREDIT
    return Standing(
        account=account,
        tier=tier.title if tier is not None else account.plan.tier,
        overdraft=overdraft,
        available=available,
        refusing=None if code is None else _refusing(runtime, code),
        all_in_use=available <= 0 < account.balance + overdraft,
        may_upgrade=account.plan.tier in {*runtime.payments.upgrades, *runtime.payments.upgrades_on_request},
        overrides=tuple((name, _plainly(value)) for name, value in shown(account.plan.overrides).items()),
    )


def _plainly(value: Value) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value).lower()


def _refusing(runtime: Runtime, code: Code) -> Refusing:
    styles = [product.errors for product in runtime.products.values()] or [runtime.default_errors]
    told = [worded(style, Refused(code=code)) for style in styles]
    return Refusing(code=str(code), said=tuple(sorted({(each.status, each.message) for each in told})))


@record
class Share:
    """A part of a whole, in percent for a bar; what is above the whole is still a full bar."""

    percent: int
    level: str  # ok, near or full


def share(part: int, whole: int) -> Share:
    """How much of the whole the part is."""
    percent = min(100, max(0, part * 100 // whole)) if whole > 0 else 100
    return Share(percent=percent, level="full" if percent >= 100 else "near" if percent >= 80 else "ok")


@record
class KeyLine:
    """A key of the account. `state`: active, disabled or expired. `used`: of its monthly budget, if it has one."""

    key: Key
    state: str
    products: tuple[str, ...]
    used: Share | None
    left: Nanos | None


def key_state(key: Key, now_ms: int) -> str:
    """Whether a key opens anything now."""
    if key.disabled:
        return "disabled"
    return "expired" if key.expires_ms is not None and key.expires_ms <= now_ms else "active"


def key_lines(runtime: Runtime, keys: Iterable[Key], now_ms: int) -> list[KeyLine]:
    """The account's keys, those that work first."""
    lines = []
    for key in keys:
        budget = key.monthly_budget
        lines.append(
            KeyLine(
                key=key,
                state=key_state(key, now_ms),
                products=tuple(product_title(runtime, name) for name in key.products or ()),
                used=None if budget is None else share(key.spent + key.held, budget),
                left=None if budget is None else Nanos(max(0, budget - key.spent - key.held)),
            )
        )
    return sorted(lines, key=lambda line: (line.state != "active", line.key.name or line.key.id))


def product_title(runtime: Runtime, name: str) -> str:
    """A product's title; its name where the config does not have it (any more)."""
    product = runtime.products.get(name)
    return product.title if product is not None else name


@record
class EntryLine:
    """A line of the ledger for people: what it is about, and what explains it."""

    entry: Entry
    title: str
    what: str
    items: tuple[Mapping[str, Any], ...]
    facts: tuple[tuple[str, str], ...]


def entry_lines(runtime: Runtime, entries: Sequence[Entry], key_names: Mapping[str, str]) -> list[EntryLine]:
    """The entries, each with its explanation."""
    return [_entry_line(runtime, entry, key_names) for entry in entries]


def _entry_line(runtime: Runtime, entry: Entry, key_names: Mapping[str, str]) -> EntryLine:
    data = entry.data
    key_id = str(data.get("key_id", ""))
    if entry.kind == "charge":
        title, what = product_title(runtime, str(data.get("product", ""))), key_names.get(key_id, key_id)
    elif entry.kind == "grant":
        kind = str(data.get("kind", ""))
        title, what = _CREDIT_KINDS.get(kind, f"{kind.capitalize()} credit"), str(data.get("note", ""))
    elif entry.kind in ("correction", "commitment"):
        title, what = entry.kind.capitalize(), str(data.get("reason", ""))
    else:
        what = str(data.get("reason", ""))  # only where somebody ended it
        title = "Credit taken off" if what else "Credit expired"
    named = (
        ("Call", data.get("call_id")),
        ("Key", key_names.get(key_id, key_id)),
        ("Price list", data.get("price_version")),
        ("Rate card", data.get("rate_card")),
        ("Service's id", data.get("upstream_id")),
        ("Reason", data.get("reason")),
        ("Settled", "late, after its hold had ended" if data.get("late") else ""),
        ("Entry", entry.id),
    )
    facts = tuple((name, str(value)) for name, value in named if value)
    return EntryLine(entry=entry, title=title, what=what, items=tuple(data.get("items", ())), facts=facts)


@record
class HoldLine:
    """Credit that is set aside for a call or job under way."""

    hold: Hold
    product: str
    key: str


def hold_lines(runtime: Runtime, holds: Iterable[Hold], key_names: Mapping[str, str]) -> list[HoldLine]:
    """What is in use, the newest first."""
    found = sorted(holds, key=lambda hold: hold.created_ms, reverse=True)
    return [
        HoldLine(hold=hold, product=product_title(runtime, hold.product), key=key_names.get(hold.key_id, hold.key_id))
        for hold in found
    ]


@record
class JobLine:
    """A job that is under way, or waits at a `place` of the queue (0: it does not wait)."""

    record: Resource
    product: str
    key: str
    place: int
    look_ms: int


def job_lines(runtime: Runtime, jobs: Iterable[OpenJob], key_names: Mapping[str, str]) -> list[JobLine]:
    """Jobs under way, then those that wait in their order."""
    return [
        JobLine(
            record=job.record,
            product=product_title(runtime, job.record.product),
            key=key_names.get(job.record.key_id, job.record.key_id),
            place=job.place,
            look_ms=job.look_ms,
        )
        for job in jobs
    ]


def key_names(keys: Iterable[Key]) -> dict[str, str]:
    """What people call a key, by its id."""
    return {key.id: key.name or key.id for key in keys}


@record
class PriceGroup:
    """The prices of one product: each (what, price as it is listed, what it is from volumes of a month on)."""

    title: str
    included: bool
    prices: tuple[tuple[str, str, tuple[str, ...]], ...]


def rate_card(runtime: Runtime, card: str, tier: Tier | None, now: float) -> list[PriceGroup]:
    """The prices of a rate card by product, what the plan includes first. None for a card that the config lost."""
    if card not in {name for _, name in runtime.prices.tables}:
        return []
    table = runtime.prices.current(now, card)
    groups: dict[str, list[tuple[str, str, tuple[str, ...]]]] = {}
    for row in price_table(runtime, card):
        if row.version == table.version and row.product:
            steps = tuple(step.price.listed for step in table.steps.get(row.sku, ()))
            for product in row.product.split(", "):
                groups.setdefault(product, []).append((row.sku, row.unit_price, steps))
    included = frozenset(tier.products) if tier is not None else frozenset()
    found = [
        PriceGroup(title=product_title(runtime, name), included=name in included, prices=tuple(rows))
        for name, rows in groups.items()
    ]
    return sorted(found, key=lambda group: (not group.included, group.title))
