"""Routes as they are booked: by whoever serves the call itself and only tells of it.

Owns: which routes can be, and what of a route holds where its calls are not forwarded here.
Does not know: who books, or what becomes of a booking.

Nothing of the replies is seen, so nothing is known of whose a resource is: a booked call requires none. A socket is not
paid slice by slice here, and no token is minted.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from gateway.core.extract import Field
from gateway.core.record import record
from gateway.core.usage import Estimate, Measure
from gateway.pipeline.pricing import metering_of
from gateway.settings.metering import Metering
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime

#: The sources of quantities that are told by the names of measures: what is expected, and what was used.
EXPECTED: Final = "resource"
USED: Final = "frame"


@record
class Bookable:
    """A route for bookings: `by_request` expects what its own estimates read of a request, `by_usage` what is told by
    the names of its measures. `metering` is how usage is read of a reply, and priced; None: the route is free.
    """

    by_request: Route
    by_usage: Route
    metering: Metering | None

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is measured of it."""
        return () if self.metering is None else self.metering.measures


def bookable(runtime: Runtime) -> Mapping[str, Bookable]:
    """Every route that can be booked, by its name."""
    found = (_bookable(route) for route in runtime.routes if route.session is None and route.mints is None)
    return {each.by_request.name: each for each in found}


def only_paid(book: Mapping[str, Bookable]) -> Mapping[str, str]:
    """The products of which one route costs something, with its name: there it need not be told."""
    paid: dict[str, list[str]] = {}
    for name, each in book.items():
        if each.metering is not None:
            paid.setdefault(each.by_request.product.name, []).append(name)
    return {product: names[0] for product, names in paid.items() if len(names) == 1}


def _bookable(route: Route) -> Bookable:
    metering = metering_of(route)
    by_request = replace(
        route,
        # Without the ledger there is nothing to settle from another process.
        product=replace(route.product, without_ledger=None),
        meter="none" if metering is None else "response",
        metering=metering,
        job=None,
        reports=None,
        requires=(),
        creates=None,
        stream=None,
        deletes=None,
        listing=None,
        needs_record=False,
        estimates_by=frozenset(),
        injects={},
    )
    if metering is None:
        return Bookable(by_request=by_request, by_usage=by_request, metering=None)
    expected = replace(metering, measures=tuple(_expected(measure) for measure in metering.measures))
    by_usage = replace(by_request, metering=expected, hold=None)
    return Bookable(by_request=by_request, by_usage=by_usage, metering=metering)


def _expected(measure: Measure) -> Measure:
    """The measure as it is expected by its name; one that is not told counts as where a request says nothing."""
    default = measure.estimate.default
    return replace(
        measure,
        fields=(Field(USED, (measure.name,)),),
        count="value",
        estimate=Estimate(fields=(Field(EXPECTED, (measure.name,)),), default=default),
    )
