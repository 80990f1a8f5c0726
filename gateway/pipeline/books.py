"""Ledger operations that must not be lost: done now, or spooled and done later.

Owns: the fallback from ledger to spool, the form of a spooled operation, its replay.
Does not know: calls. A settlement never fails the customer's response.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Final, Literal

from gateway.core.errors import LedgerRefused, LedgerUnavailable, UnknownAccount
from gateway.core.money import Nanos
from gateway.core.pricing import Charge, LineItem, PriceTable
from gateway.core.steps import stepped, volumes
from gateway.ledger.spool import About, Record, Spool, SpoolFull
from gateway.ports import Clock, Ledger, Observer, Receipt, Resource, ResourceRef, Settlement
from gateway.settings.plans import PriceBook

#: No rate card: nothing has steps.
NO_PRICES: Final = PriceBook(starts=(), versions=(), tables={})
NO_TABLE: Final = PriceTable(version="", rate_card="", prices={})
#: What became of a charge. Nothing was charged by a `conflict`: the hold had another end.
Settled = Receipt | Literal["spooled", "conflict"]
#: What does one operation of the spool.
Apply = Callable[[Record], Awaitable[None]]


async def by_steps(ledger: Ledger, prices: PriceBook, settlement: Settlement) -> Settlement:
    """The settlement at the prices of the steps that it is in. Raises LedgerRefused and LedgerUnavailable."""
    charge, table = settlement.charge, _table(prices, settlement)
    used = volumes(charge, table)
    if not used:
        return settlement
    before = await ledger.take_volume(account=settlement.account, hold_id=settlement.hold_id, volumes=used)
    return replace(settlement, charge=stepped(charge, table, before), volumes=used)


def _table(prices: PriceBook, settlement: Settlement) -> PriceTable:
    """The prices that it was admitted with."""
    charge = settlement.charge
    return prices.pinned(charge.price_version, charge.rate_card) or NO_TABLE


class Books:
    """What a call does to the ledger after it was admitted."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        spool: Spool,
        observer: Observer,
        clock: Clock,
        operation_seconds: int,
        prices: PriceBook = NO_PRICES,
        replaying: Callable[[Apply], Apply] = lambda apply: apply,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._observer = observer
        self._clock = clock
        self._operation_seconds = operation_seconds
        self._prices = prices
        self._stepped = frozenset(name for name, table in prices.tables.items() if table.steps)
        self._applied = replaying(self._apply)

    async def settle(self, settlement: Settlement) -> Settled:
        """Charge: the receipt, or that it waits in the spool, or that the ledger refused it for good (counted).

        The charge is at the prices of the first unit. Where its rate card has steps, what it costs is known here.
        """
        try:
            if self.has_steps(settlement):
                return await self._settle_by_steps(settlement)
            return await self._ledger.settle(settlement)
        except (LedgerUnavailable, UnknownAccount):
            # An account that admitted a call and is gone was lost: the spool keeps what people must look at.
            await self._keep("settle", asdict(settlement))
            return "spooled"
        except LedgerRefused:
            self._observer.event("settlement_refused", product=settlement.product)
            return "conflict"

    def _settle(self, settlement: Settlement) -> Awaitable[Receipt]:
        """Charge, by the steps that the charge is in where its rate card has some."""
        if self.has_steps(settlement):
            return self._settle_by_steps(settlement)
        return self._ledger.settle(settlement)

    async def _settle_by_steps(self, settlement: Settlement) -> Receipt:
        return await self._ledger.settle(await self.by_steps(settlement))

    def has_steps(self, settlement: Settlement) -> bool:
        """Whether what it costs may depend on what its month had before."""
        charge = settlement.charge
        return (charge.price_version, charge.rate_card) in self._stepped

    async def by_steps(self, settlement: Settlement) -> Settlement:
        """The settlement at the prices of the steps that it is in. A repeat takes no volume again, and costs the same.

        Raises LedgerUnavailable.
        """
        try:
            return await by_steps(self._ledger, self._prices, settlement)
        except LedgerRefused:  # it has ended, or was charged for something else: settle says so
            self._observer.event("volume_refused", product=settlement.product)
            return settlement

    async def release(self, account: str, hold_id: str, resource: ResourceRef | None = None) -> None:
        """Give a hold back."""
        try:
            await self._ledger.release(account=account, hold_id=hold_id, resource=resource)
        except LedgerUnavailable:
            ref = asdict(resource) if resource is not None else None
            await self._keep("release", {"account": account, "hold_id": hold_id, "resource": ref})

    async def accept(
        self,
        account: str,
        resource: Resource,
        *,
        deadline_seconds: int,
        keep_seconds: int,
        look_seconds: float = 0.0,
        call_seconds: int = 0,
    ) -> Resource | None:
        """Record what the upstream made for the account. The record that stands: another call's where the upstream has
        used that id before; None where the ledger keeps none of it.
        """
        times = {"deadline_seconds": deadline_seconds, "keep_seconds": keep_seconds, "call_seconds": call_seconds}
        try:
            await self._ledger.accept(account=account, resource=resource, look_seconds=look_seconds, **times)
        except LedgerUnavailable:
            # When the ledger is back the job may be long over: it is looked at at once.
            fields = {name: value for name, value in asdict(resource).items() if value or name != "endpoint"}
            await self._keep("accept", {"account": account, "resource": fields, **times})
        except LedgerRefused:
            self._observer.event("accept_refused", product=resource.product)
            return await self._ledger.resource(account=account, ref=resource.ref)
        return resource

    async def enqueue(
        self, account: str, resource: Resource, body: bytes, *, deadline_seconds: int, call_seconds: int
    ) -> bool:
        """Have a job wait for its place. While the ledger is away nobody waits: LedgerUnavailable."""
        return await self._ledger.enqueue(
            account=account, resource=resource, body=body, deadline_seconds=deadline_seconds, call_seconds=call_seconds
        )

    async def forget(self, account: str, ref: ResourceRef) -> None:
        """The upstream deleted it."""
        try:
            await self._ledger.forget(account=account, ref=ref)
        except LedgerUnavailable:
            await self._keep("forget", {"account": account, "ref": asdict(ref)})

    async def post(
        self, account: str, delivery_id: str, channel: str, payload: Mapping[str, Any], seconds: float
    ) -> None:
        """Tell somebody outside, in so many seconds."""
        try:
            await self._ledger.post(
                account=account, delivery_id=delivery_id, channel=channel, payload=payload, seconds=seconds
            )
        except LedgerUnavailable:
            delivery = {"account": account, "delivery_id": delivery_id, "channel": channel, "payload": payload}
            await self._keep("post", {**delivery, "seconds": seconds})
        except LedgerRefused:  # whoever is to be told: what it is told of is ended all the same
            self._observer.event("post_refused")

    async def correct(
        self, *, operation: str, account: str, key_id: str, amount: Nanos, data: Mapping[str, Any]
    ) -> None:
        """Give back (or take) what a later report changes of a charge."""
        correction = {"operation": operation, "account": account, "key_id": key_id, "amount": amount, "data": data}
        try:
            await self._ledger.correct(operation=operation, account=account, key_id=key_id, amount=amount, data=data)
        except LedgerUnavailable:
            await self._keep("correct", correction)
        except LedgerRefused:
            self._observer.event("correction_refused")

    async def _keep(self, operation: str, arguments: dict[str, Any]) -> None:
        record = {"v": 1, "operation": operation, "at": int(self._clock.now()), "arguments": arguments}
        try:
            await self._spool.append(record)
        except OSError:  # the disk is full or gone: it waits in memory, and is written as soon as it can be
            self._observer.event("spool_unwritten", operation=operation)
        except (SpoolFull, TypeError):  # TypeError: a number that JSON has no place for
            self._observer.event("spool_failed", operation=operation)
        else:
            self._observer.event("spooled", operation=operation)

    async def replay(self) -> tuple[int, int]:
        """Do what the spool holds: how many were done, how many the ledger refused for good."""
        done, refused = await self._spool.replay(self._applied, self._about)
        if done:
            self._observer.event("spool_replayed", value=done)
        if refused:
            self._observer.event("spool_rejected", value=refused)
        return done, refused

    def oldest_seconds(self) -> float:
        """For how long the operation has waited in the spool that is next."""
        first = self._spool.first
        at = self._clock.now() if first is None else first.get("at")
        return max(0.0, self._clock.now() - at) if isinstance(at, int | float) else 0.0

    def _about(self, record: Record) -> About:
        """Whose operation it is, as far as that can be read, and the server that has the account."""
        arguments = record.get("arguments")
        account = arguments.get("account") if isinstance(arguments, dict) else None
        owner = account if isinstance(account, str) else ""
        return owner, self._ledger.server_of(owner)

    async def _apply(self, record: Record) -> None:
        try:
            seconds, operation = self._clock.now() - record["at"], self._operation(record)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # Another version wrote it, or a crash cut it. It must not hold up those behind it.
            raise LedgerRefused(f"cannot be read: {type(error).__name__}") from error
        if seconds > self._operation_seconds:
            # The ledger may have forgotten that it did this one already: a person decides, not a replay.
            raise LedgerRefused("older than the ledger remembers operations")
        await operation()

    def _operation(self, record: Record) -> Callable[[], Awaitable[object]]:
        """What a record asks for, read to its last field before anything is done."""
        arguments = record["arguments"]
        match record["operation"]:
            case "settle":
                return partial(self._settle, read_settlement(arguments))
            case "release":
                ref = arguments["resource"] and ResourceRef(**arguments["resource"])
                account, hold_id = arguments["account"], arguments["hold_id"]
                return partial(self._ledger.release, account=account, hold_id=hold_id, resource=ref)
            case "accept":
                fields = arguments["resource"]
                return partial(
                    self._ledger.accept,
                    account=arguments["account"],
                    resource=Resource(**{**fields, "ref": ResourceRef(**fields["ref"])}),
                    deadline_seconds=arguments["deadline_seconds"],
                    keep_seconds=arguments["keep_seconds"],
                    call_seconds=arguments.get("call_seconds", 0),
                )
            case "forget":
                return partial(self._ledger.forget, account=arguments["account"], ref=ResourceRef(**arguments["ref"]))
            case "post":
                names = ("account", "delivery_id", "channel", "payload", "seconds")
                return partial(self._ledger.post, **_exactly(arguments, *names))
            case "correct":
                told = _exactly(arguments, "operation", "account", "key_id", "amount", "data")
                return partial(self._ledger.correct, **{**told, "amount": Nanos(told["amount"])})
            case other:
                raise LedgerRefused(f"unknown operation {other!r} in the spool")


def _exactly(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    """The arguments, which are those of these names. KeyError."""
    if arguments.keys() != {*names}:
        raise KeyError(*arguments.keys() ^ {*names})
    return arguments


def read_settlement(fields: dict[str, Any]) -> Settlement:
    """A settlement that was written as plain data."""
    charge = fields["charge"]
    items = tuple(LineItem(**{**item, "amount": Nanos(item["amount"])}) for item in charge["items"])
    ref = fields["resource"] and ResourceRef(**fields["resource"])
    return Settlement(**{**fields, "charge": Charge(**{**charge, "items": items}), "resource": ref})
