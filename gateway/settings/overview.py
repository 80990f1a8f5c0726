"""The compiled config for people: what everything costs.

Owns: the rows of the price table. Does not know: how they are printed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.settings.compile.prices import owners_of
from gateway.settings.compile.scope import Metered
from gateway.settings.problems import Document, Place
from gateway.settings.routes import Route
from gateway.settings.runtime import Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """One SKU in one version as one rate card sees it. `product`: whose charge it is, "" where no charge uses it."""

    sku: str
    unit_price: str
    version: str
    effective_from: str
    product: str
    rate_card: str


def price_table(runtime: Runtime, rate_card: str | None = None) -> list[PriceRow]:
    """Every price, oldest version first; of the default tier's rate card where none is named."""
    card = rate_card or runtime.tiers[runtime.default_tier].rate_card
    owned = owners(runtime)
    rows: list[PriceRow] = []
    for start, version in zip(runtime.prices.starts, runtime.prices.versions, strict=True):
        since = datetime.fromtimestamp(start, UTC).isoformat().replace("+00:00", "Z")
        table = runtime.prices.tables[version, card]
        rows += [
            PriceRow(
                sku=sku,
                unit_price=table.prices[sku].listed,
                version=version,
                effective_from=since,
                product=", ".join(sorted(owned.get(sku, ()))),
                rate_card=card,
            )
            for sku in sorted(table.prices)
        ]
    return rows


def owners(runtime: Runtime) -> dict[str, set[str]]:
    """SKU -> the products that charge it."""
    return owners_of(_metered(runtime.routes))


def _metered(routes: tuple[Route, ...]) -> list[Metered]:
    nowhere = Place(Document(file="", lines=(), data=None, keys={}, values={}))
    found: list[Metered] = []
    for route in routes:
        metering = route.job.metering if route.job is not None else route.metering
        if metering is not None:
            product = route.product
            found.append(Metered(place=nowhere, product=product.name, metering=metering, models=product.models))
    return found
