"""What a session has used and owes, while it runs: its clock, its reports, its prices.

Owns: the cumulative quantities of a session, their split where prices or add-ons change, and what of them is charged.
Does not know: the ledger, sockets. Plain values; `now` is handed in (monotonic seconds).

A session is a row of segments, each with prices and add-ons of its own. A segment is priced as a whole and rounded
once; a slice is charged the difference to what was charged of it before. So the slices of a session add up to exactly
what the session costs, however often it was renewed, and a report at its end corrects all of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

from gateway.core.extract import first_reported
from gateway.core.money import ZERO, Nanos
from gateway.core.pricing import Charge, LineItem, PriceTable, Unpriced, amount_for, at_most, charge_for, exact_text
from gateway.core.usage import Quantity, Usage, read_usage
from gateway.pipeline.pricing import ran_model
from gateway.settings.metering import Metering
from gateway.settings.products import Product

Basis = Literal["reported", "clock", "estimated"]
#: Price changes of one session; a client that switches add-ons more often than this is not served on. Each is priced
#: again whenever a charge is made.
SEGMENTS_MAX: Final = 100
#: Long enough that the rounding of its price is nothing: a second's rate is exact to 1e-6 nano-dollars.
_RATE_SECONDS: Final = 1_000_000


@dataclass(slots=True, kw_only=True)
class _Segment:
    """A stretch of one price: the quantities at its start, and at its end once there is a next one."""

    start: Mapping[str, Quantity]
    end: Mapping[str, Quantity] | None = None
    table: PriceTable
    sources: Mapping[str, Any]
    charged: dict[tuple[str, str, str], tuple[Decimal, int]] = field(default_factory=dict)


class TooManyChanges(Exception):
    """The session's price changed more often than is kept track of."""


class SessionMeter:
    """One session's meter. `sources` is the call's: query, the updates that its client sent, the upstream's frames.

    A report of more than `seconds_max` is no report: no session lasts so long.
    """

    __slots__ = (
        "_began_at", "_charged", "_clocks", "_factors", "_metering", "_multipliers", "_product", "_seconds_max",
        "_segments", "_sources", "_stopped_at", "_waived", "unpriced",
    )  # fmt: skip

    def __init__(
        self,
        metering: Metering,
        product: Product,
        sources: Mapping[str, Any],
        table: PriceTable,
        *,
        seconds_max: float = float("inf"),
    ) -> None:
        self._metering = metering
        self._product = product
        self._sources = sources
        self._clocks = tuple(measure.name for measure in metering.measures if measure.clock)
        #: Measures that multiply (channels) are not used up: they are the same in every segment.
        self._factors = frozenset(rule.times for rule in metering.rules if rule.times is not None)
        self._multipliers = tuple(measure for measure in metering.measures if measure.name in self._factors)
        self._seconds_max = seconds_max
        self._began_at: float | None = None
        self._stopped_at: float | None = None
        self._segments = [_Segment(start={}, table=table, sources=dict(sources))]
        self._charged = 0
        self._waived = 0  # what `most` kept from being charged
        self.unpriced = ""  # the SKU that ran and has no price, if there was one

    def __repr__(self) -> str:
        return f"<SessionMeter segments={len(self._segments)} charged={self._charged}>"

    @property
    def charged(self) -> Nanos:
        """What was taken so far."""
        return Nanos(self._charged)

    # ---- time

    def begin(self, now: float) -> None:
        """The session has begun: its clock runs, and what is known of it holds for all of it."""
        if self._began_at is not None:
            self.change(now)
            return
        self._began_at = now
        self._segments[-1].sources = dict(self._sources)

    def resume(self) -> None:
        """Other sockets served the session before, and paid for it: the upstream reports all, this one pays its own."""
        self._seconds_max = -1

    @property
    def begun(self) -> bool:
        """Whether there is anything to charge."""
        return self._began_at is not None

    def stop(self, now: float) -> None:
        """The clock stops: what comes after is not the customer's."""
        if self._stopped_at is None:
            self._stopped_at = now

    def seconds(self, now: float) -> Decimal:
        """By the clock, to the millisecond."""
        if self._began_at is None:
            return Decimal(0)
        until = now if self._stopped_at is None else min(now, self._stopped_at)
        return Decimal(round(max(0.0, until - self._began_at) * 1000)).scaleb(-3)

    # ---- quantities

    def usage(self, now: float) -> Usage:
        """What was used so far, as reported; the clock's seconds where the upstream has not reported them."""
        usage = self._reported()
        quantities = dict(usage.quantities)
        by_clock = [name for name in self._clocks if name in usage.missing]
        for name in by_clock:
            quantities[name] = self.seconds(now)
        return Usage(quantities=quantities, missing=tuple(name for name in usage.missing if name not in by_clock))

    def reported(self) -> bool:
        """Whether every quantity was reported, the clock's too."""
        return self._reported().reported

    def reported_seconds(self) -> Decimal:
        """What the upstream said of the time, where it said something."""
        quantities = self._reported().quantities
        return next((Decimal(quantities[name]) for name in self._clocks if name in quantities), Decimal(0))

    def _reported(self) -> Usage:
        """What the upstream said; what multiplies (channels) counts as expected until it does."""
        usage = read_usage(self._metering.measures, self._sources)
        quantities = dict(usage.quantities)
        for measure in self._multipliers:
            if first_reported(measure.fields, self._sources) is None and measure.name in quantities:
                quantities[measure.name] = measure.estimate.of(self._sources, 0)
        beyond = tuple(name for name in self._clocks if quantities.get(name, -1) > self._seconds_max)
        for name in beyond:
            del quantities[name]
        return Usage(quantities=quantities, missing=usage.missing + beyond)

    # ---- prices

    def change(self, now: float, table: PriceTable | None = None) -> None:
        """From now on other add-ons (those of `sources` as they are) or prices hold. TooManyChanges."""
        last = self._segments[-1]
        table = table or last.table
        sources = dict(self._sources)
        if table is last.table and self._hour(sources, table) == self._hour(last.sources, table):
            last.sources = sources
            return
        if len(self._segments) >= SEGMENTS_MAX:
            raise TooManyChanges
        if not self.begun:
            last.table, last.sources = table, sources
            return
        last.end = self.usage(now).quantities
        self._segments.append(_Segment(start=last.end, table=table, sources=sources))

    @property
    def table(self) -> PriceTable:
        """The prices that hold now."""
        return self._segments[-1].table

    def _hour(self, sources: Mapping[str, Any], table: PriceTable) -> Nanos | Unpriced:
        quantities: dict[str, Quantity] = dict.fromkeys((m.name for m in self._metering.measures), _RATE_SECONDS)
        return self._amount({"calls": 1, **quantities}, sources, table)

    def _amount(
        self, quantities: Mapping[str, Quantity], sources: Mapping[str, Any], table: PriceTable
    ) -> Nanos | Unpriced:
        model = ran_model(self._product, sources)
        return amount_for(self._metering.rules, Usage(quantities=quantities), sources, model, table)

    def per_second(self) -> Fraction:
        """What a second costs now, in nano-dollars; 0 where time costs nothing."""
        if not self._clocks:
            return Fraction(0)
        segment, reported = self._segments[-1], self._reported().quantities
        quantities: dict[str, Quantity] = {name: reported[name] for name in self._factors if name in reported}
        quantities |= dict.fromkeys(self._clocks, _RATE_SECONDS)
        amount = self._amount(quantities, segment.sources, segment.table)
        return Fraction(0) if isinstance(amount, Unpriced) else Fraction(amount, _RATE_SECONDS)

    # ---- charges

    def owed(self, now: float) -> int:
        """What was used and not taken, in nano-dollars; negative where a report says less than was taken."""
        return sum(amount for _, amount in self._differences(now).values())

    def take(self, now: float, *, most: Nanos | None = None, basis: Basis) -> tuple[Charge, Nanos]:
        """Charge what is owed, at most `most`: the charge, and what is to be given back of what was taken before."""
        found = self._differences(now, keep=True)
        items: list[LineItem] = []
        back = 0
        for (sku, unit, unit_price), (quantity, amount) in found.items():
            if amount < 0:
                back -= amount
            elif amount or quantity > 0:
                items.append(
                    LineItem(
                        sku=sku, quantity=exact_text(quantity), unit=unit, unit_price=unit_price, amount=Nanos(amount)
                    )
                )
        total = sum(item.amount for item in items)
        forgiven = min(back, self._waived)  # what was never charged is not given back
        self._waived -= forgiven
        back -= forgiven
        netted = min(back, total)  # one line may give back what another takes
        over = max(netted, total - most if most is not None else 0)
        self._waived += over - netted
        amount = total - over
        self._charged += amount - (back - netted)
        table = self.table
        charge = Charge(
            amount=Nanos(amount),
            items=at_most(items, amount),
            price_version=table.version,
            rate_card=table.rate_card,
            basis=basis,
        )
        return charge, Nanos(back - netted)

    def _differences(self, now: float, *, keep: bool = False) -> dict[tuple[str, str, str], tuple[Decimal, int]]:
        """By line: what each segment costs as it stands, less what was taken of it."""
        total = self.usage(now).quantities
        found: dict[tuple[str, str, str], tuple[Decimal, int]] = {}
        for segment in self._segments:
            cost = self._cost(segment, total)
            for line in {**segment.charged, **cost}:
                quantity, amount = cost.get(line, (Decimal(0), 0))
                taken_quantity, taken = segment.charged.get(line, (Decimal(0), 0))
                before = found.get(line, (Decimal(0), 0))
                found[line] = (before[0] + quantity - taken_quantity, before[1] + amount - taken)
            if keep:
                segment.charged = cost
        return found

    def _cost(
        self, segment: _Segment, total: Mapping[str, Quantity]
    ) -> dict[tuple[str, str, str], tuple[Decimal, int]]:
        """A segment's lines, priced as a whole: of what was used in all, what lies between its start and its end."""
        if not self.begun:
            return {}
        quantities: dict[str, Quantity] = {}
        for name, used in total.items():
            if name == "calls":
                quantities[name] = 1 if segment is self._segments[0] else 0
                continue
            if name in self._factors:
                quantities[name] = used
                continue
            until = used if segment.end is None else min(used, segment.end.get(name, 0))
            quantities[name] = max(Decimal(0), Decimal(until) - Decimal(segment.start.get(name, 0)))
        charge = charge_for(
            self._metering.rules,
            Usage(quantities=quantities),
            segment.sources,
            ran_model(self._product, segment.sources),
            segment.table,
        )
        if isinstance(charge, Unpriced):
            self.unpriced = charge.sku
            return {}
        lines: dict[tuple[str, str, str], tuple[Decimal, int]] = {}
        for item in charge.items:
            line = (item.sku, item.unit, item.unit_price)
            quantity, amount = lines.get(line, (Decimal(0), 0))
            lines[line] = (quantity + Decimal(item.quantity), amount + item.amount)
        return lines


def nothing_owed(table: PriceTable) -> Charge:
    """The charge of a slice in which nothing was used."""
    return Charge(amount=ZERO, items=(), price_version=table.version, rate_card=table.rate_card, basis="clock")
