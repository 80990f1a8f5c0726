"""Stored records, read and written.

Owns: every format that Redis keeps and Python reads; each begins with its version, and one of another version is
a fault, not a guess. The scripts write them, and their headers say how.
Does not know: keys, scripts, links.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, cast

import orjson

from gateway.core import commitments
from gateway.core.autopay import Autopay, AutopayState
from gateway.core.errors import GatewayError
from gateway.core.money import Nanos
from gateway.ledger.rules import SEPARATOR
from gateway.ports import (
    Account,
    AccountStatus,
    Delivery,
    Entry,
    FollowedJob,
    Grant,
    GrantKind,
    Hold,
    Key,
    KeyBilling,
    Monthly,
    Plan,
    QueuedJob,
    Resource,
    ResourceRef,
    ResourceState,
    Watch,
    WatchKind,
)

_VERSION: Final = "1"


class UnreadableRecord(GatewayError):
    """A stored record is not of a form that this version of the gateway reads."""


def digest(*words: str | bytes) -> str:
    """What tells two contents of one operation apart."""
    return digest_of(SEPARATOR.encode().join([word if isinstance(word, bytes) else word.encode() for word in words]))


def digest_of(content: bytes) -> str:
    """The same, of a content that is joined already."""
    return blake2b(content, digest_size=16).hexdigest()


def json(value: object) -> bytes:
    """JSON, the same for equal values."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def pairs(flat: Sequence[bytes]) -> dict[str, str]:
    """A hash as Redis answers it: names and values in turn."""
    words = iter(flat)
    return {name.decode(): value.decode() for name, value in zip(words, words, strict=True)}


def fields(what: str, record: bytes | None, lengths: Iterable[int]) -> list[str]:
    """The fields of a packed record of this version, without the version."""
    version, *rest = record.decode().split(SEPARATOR) if record is not None else ["none"]
    if version != _VERSION or len(rest) not in lengths:
        raise UnreadableRecord(f"{what}: not a record of version {_VERSION}")
    return rest


def hold(account: str, hold_id: bytes, record: bytes | None, expires: bytes) -> Hold:
    """One value of the hash of holds; its score in `due` is the expiry."""
    words = fields(f"hold {hold_id.decode()} of {account}", record, (10, 12))
    amount, key_id, concurrency_class, _, created, _, _, _, product, price_version, *job = words
    return Hold(
        id=hold_id.decode(),
        account=account,
        amount=Nanos(int(amount)),
        product=product,
        key_id=key_id,
        price_version=price_version,
        concurrency_class=concurrency_class,
        created_ms=int(created),
        expires_ms=int(expires),
        resource=ResourceRef(kind=job[0], id=job[1]) if job else None,
    )


def grant(grant_id: bytes, record: bytes, left: bytes) -> Grant:
    """One grant and what remains of it."""
    kind, amount, priority, expires, created = fields(f"grant {grant_id.decode()}", record, (5,))
    return Grant(
        id=grant_id.decode(),
        kind=cast("GrantKind", kind),
        amount=Nanos(int(amount)),
        remaining=Nanos(int(left)),
        priority=int(priority),
        expires_ms=int(expires) if expires else None,
        created_ms=int(created),
    )


def account(account_id: str, facts: Sequence[bytes]) -> Account:
    """The answer of the scripts' standing()."""
    tier, rate_card, status, balance, held, debt, created, open_holds, *grants = facts
    # Answers that were kept before accounts had overrides have none.
    overrides = grants.pop(0).decode() if len(grants) % 3 else ""
    triples = zip(grants[::3], grants[1::3], grants[2::3], strict=True)
    return Account(
        id=account_id,
        plan=Plan(tier=tier.decode(), rate_card=rate_card.decode(), overrides=overrides),
        status=cast("AccountStatus", status.decode()),
        balance=Nanos(int(balance)),
        held=Nanos(int(held)),
        debt=Nanos(int(debt)),
        open_holds=int(open_holds),
        created_ms=int(created),
        grants=tuple(grant(*triple) for triple in triples),
    )


def monthly(now: bytes, tier: bytes, rate_card: bytes, overrides: bytes, granted: bytes, commitment: bytes) -> Monthly:
    """How an account stands in its month, of the answer of sweep."""
    plan = Plan(tier=tier.decode(), rate_card=rate_card.decode(), overrides=overrides.decode())
    return Monthly(
        plan=plan, now=now.decode(), granted=granted.decode(), closing=commitments.read(commitment.decode()).closing
    )


def key(account_id: str, facts: Sequence[bytes]) -> Key:
    """The answer of the scripts' key_facts()."""
    # Answers that were kept before keys had projects, names of peppers, or a word on billing, have none.
    key_id, name, disabled, expires, products, budget, spent, held, created, *later = (fact.decode() for fact in facts)
    return Key(
        id=key_id,
        account=account_id,
        name=name,
        project=later[0] if later else "",
        pepper=later[1] if len(later) > 1 else "",
        billing=cast("KeyBilling", later[2] or "manage") if len(later) > 2 else "manage",
        disabled=disabled == "1",
        expires_ms=int(expires) if expires else None,
        products=None if products == "*" else tuple(products.split(SEPARATOR)[1:-1]),
        monthly_budget=Nanos(int(budget)) if budget else None,
        spent=Nanos(int(spent)),
        held=Nanos(int(held)),
        created_ms=int(created),
    )


def key_fields(changes: Mapping[str, Any]) -> list[str]:
    """The fields of a key's hash, by name and value, for what may be changed of a key."""
    written: list[str] = []
    for name, value in changes.items():
        match name, value:
            case (("name" | "project"), str()):
                written += [name, value]
            case "disabled", bool():
                written += ["disabled", "1" if value else "0"]
            case "expires_ms", _:
                written += ["expires", "" if value is None else str(value)]
            case "products", _:
                # A separator on both sides of each, so that a script can look for one.
                every = SEPARATOR.join(("", *value, "")) if value else SEPARATOR
                written += ["products", "*" if value is None else every]
            case "billing", str():
                written += [name, value]
            case "monthly_budget", _:
                written += ["budget", "" if value is None else str(value)]
            case _:
                raise AssertionError(f"{name} was checked before")
    return written


def entry(entry_id: bytes, flat: Sequence[bytes]) -> Entry:
    """One entry of the stream: what the script wrote joins what Python explained."""
    found = pairs(flat)
    if found.get("v") != _VERSION:
        raise UnreadableRecord(f"entry {entry_id.decode()}: not a record of version {_VERSION}")
    data: dict[str, Any] = orjson.loads(found["data"])
    if found["grants"] or found["kind"] in {"charge", "correction", "commitment"}:
        moved = (part.rsplit(":", 1) for part in found["grants"].split(",") if part)
        data["grants"] = {grant_id: int(amount) for grant_id, amount in moved}
    if found["debt"] != "0":
        data["debt"] = int(found["debt"])
    if found["late"]:
        data["late"] = True
    return Entry(
        id=entry_id.decode(),
        kind=found["kind"],
        amount=Nanos(int(found["amount"])),
        balance=Nanos(int(found["balance"])),
        operation=found["operation"],
        at_ms=int(found["at"]),
        data=data,
    )


def resource(ref: ResourceRef, flat: Sequence[bytes]) -> Resource | None:
    """The hash of a resource; None if there is none."""
    if not flat:
        return None
    found = pairs(flat)
    if found.get("v") != _VERSION:
        raise UnreadableRecord(f"{ref.kind} {ref.id}: not a record of version {_VERSION}")
    return Resource(
        ref=ref,
        state=cast("ResourceState", found["state"]),
        product=found["product"],
        hold=found["hold"],
        key_id=found["key_id"],
        price_version=found["price_version"],
        rate_card=found["rate_card"],
        created_ms=int(found["created"]),
        deadline_ms=int(found.get("deadline", 0)),
        gone_ms=int(found.get("gone", 0)),
        facts=orjson.loads(found["facts"]),
        usage=orjson.loads(found["usage"]),
        upstream=found.get("upstream", ""),
        endpoint=found.get("endpoint", ""),
    )


def queued_job(account_id: str, found: Sequence[Any]) -> QueuedJob:
    """One job of the answer of claim_queued."""
    member, flat, body, allowed, held = found
    record = resource(ref(member), flat)
    assert record is not None, "the script looked"
    return QueuedJob(account=account_id, record=record, body=body, allowed=allowed == b"1", held=held == b"1")


def followed_job(account_id: str, now: bytes, member: bytes, look: bytes, flat: Sequence[bytes]) -> FollowedJob:
    """One job of the answers of claim_jobs and jobs."""
    record = resource(ref(member), flat)
    assert record is not None, "the script looked"
    return FollowedJob(account=account_id, record=record, look_ms=int(look), now_ms=int(now))


def delivery(
    account_id: str, now: bytes, delivery_id: bytes, due: bytes, record: bytes | None, *, dead: bool = False
) -> Delivery:
    """One delivery of the answers of claim_deliveries and deliveries."""
    words = fields(f"delivery {delivery_id.decode()} of {account_id}", record, (7,))
    channel, created, attempts, _, _, why, payload = words
    return Delivery(
        account=account_id,
        id=delivery_id.decode(),
        channel=channel,
        payload=orjson.loads(payload),
        created_ms=int(created),
        due_ms=int(due),
        attempts=int(attempts),
        why=why,
        dead=dead,
        now_ms=int(now),
    )


def watch(watch_id: bytes, record: bytes) -> Watch:
    """One watch of the answers of put_watch and watches."""
    kind, amount, channel, told, data = fields(f"watch {watch_id.decode()}", record, (5,))
    return Watch(
        id=watch_id.decode(),
        kind=cast("WatchKind", kind),
        amount=int(amount),
        channel=channel,
        data=orjson.loads(data),
        told=tuple(told.split()),
    )


def member(ref: ResourceRef) -> str:
    """A job's name among those that are followed; a kind has no colon."""
    return f"{ref.kind}:{ref.id}"


def ref(member: bytes) -> ResourceRef:
    """The job of that name."""
    kind, _, ref_id = member.decode().partition(":")
    return ResourceRef(kind=kind, id=ref_id)


def resource_fields(made: Resource) -> list[str | bytes]:
    """The fields of a resource's hash that the script does not write itself, by name and value."""
    return [
        "product", made.product, "key_id", made.key_id, "price_version", made.price_version,
        "rate_card", made.rate_card, "facts", json(dict(made.facts)), "usage", json(dict(made.usage)),
        *(("endpoint", made.endpoint) if made.endpoint else ()),
    ]  # fmt: skip


def autopay(account_id: str, flat: Sequence[bytes]) -> Autopay:
    """The hash of an account's autopay; what was never written has its default."""
    found = pairs(flat)
    if not found:
        return Autopay()
    if found.get("v", _VERSION) != _VERSION:
        raise UnreadableRecord(f"autopay of {account_id}: not a record of version {_VERSION}")
    return Autopay(
        enabled=found.get("enabled") == "1",
        threshold=Nanos(int(found.get("threshold", 0))),
        target=Nanos(int(found.get("target", 0))),
        monthly_cap=Nanos(int(found["cap"])) if found.get("cap") else None,
        provider=found.get("provider", ""),
        customer=found.get("customer", ""),
        method=found.get("method", ""),
        state=AutopayState(found.get("state", "idle")),
        attempt=found.get("attempt", ""),
        by=found.get("by", ""),
        amount=Nanos(int(found.get("amount", 0))),
        begun_ms=int(found.get("begun", 0)),
        failures=int(found.get("failures", 0)),
        retry_ms=int(found.get("retry", 0)),
        month=found.get("month", ""),
        paid=Nanos(int(found.get("paid", 0))),
        why=found.get("why", ""),
    )


def autopay_fields(changes: Mapping[str, Any]) -> list[str]:
    """The fields of that hash, by name and value, for what it may be set to."""
    written: list[str] = []
    for name, value in changes.items():
        field = "cap" if name == "monthly_cap" else name
        text = "" if value is None else str(int(value)) if isinstance(value, int) else value
        written += [field, text]
    return written
