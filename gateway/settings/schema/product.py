"""`config/products/*.yaml`: one product each: upstream, dialect, models, jobs, routes."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from gateway.settings.schema.base import (
    AskedAllFields,
    Fields,
    Filled,
    Flag,
    Money,
    Name,
    Seconds,
    Settings,
    Whole,
    key,
)
from gateway.settings.schema.errors import ErrorsSettings
from gateway.settings.schema.job import JobSettings
from gateway.settings.schema.metering import Condition
from gateway.settings.schema.route import RouteSettings


def _refuse(value: Any) -> Any:
    return {} if value == "refuse" else value


class ModelsSettings(Settings):
    """The models of a product."""

    asked: AskedAllFields = key("Fields that name models in a request; `*` is every element of a list", min_length=1)
    ran: Fields = key("Fields that name the model that ran; the first one reported counts", min_length=1)
    default: Filled = key("Model that runs where a request names none")
    unknown: Name = key("Name in SKUs that a model is charged as which ran and is not known")
    dated: Flag = key(
        "A name that ran with a date behind it (`-2026-01-31`, `-20260131`) is the name without", default=False
    )
    known: dict[Filled, Name] = key("The models: name in requests to name in SKUs", min_length=1)


class LedgerAwaySettings(Settings):
    """What is served while the ledger is away."""

    allow_up_to: Money | None = key("Per account and worker", default=None, unit="dollars", shown="nothing: `refuse`")
    in_all: Money | None = key(
        "Per worker, for all accounts together", default=None, unit="dollars", shown="100 times `allow_up_to`"
    )


class ProductSettings(Settings):
    """A product."""

    product: Name = key("Name in tiers, entries and metrics")
    title: Filled = key("Name for people")
    upstream: Name | None = key(
        "Service of `gateway.yaml` that calls are forwarded to", default=None,
        shown="none: the product is used over the credit API and forward-auth alone",
    )  # fmt: skip
    errors: ErrorsSettings = key("The dialect of refusals")
    models: ModelsSettings | None = key("The models", default=None, shown="none")
    strip_reply_fields: list[Filled] = key("Fields removed from JSON replies, at any depth", default=list, shown="none")
    refuses_us_when: Condition | None = key(
        "When a refusal (4xx) is of our own account at the service, beside 401 and 402: customers are told that the "
        "service cannot be reached, operators that it is us (`credential_refused`)",
        default=None, shown="never",
    )  # fmt: skip
    on_ledger_unavailable: Annotated[LedgerAwaySettings, BeforeValidator(_refuse)] = key(
        '`refuse`, or `{allow_up_to: "0.50"}` while the ledger is away', default=LedgerAwaySettings, shown="refuse"
    )
    on_unsettled: Literal["release", "charge_hold"] = key(
        "A hold of the credit API or of forward-auth that nobody ends in time: `release` gives it back, so that what "
        "was done is free unless it is settled later; `charge_hold` charges it",
        default="release",
    )
    metered_body_bytes_max: Whole = key(
        "Copy of a reply that is kept for metering", default=32 * 1024**2, unit="bytes", ge=1024, le=1024**3
    )
    whole_body_bytes_max: Whole = key(
        "Replies up to this size are answered whole, with the charge in a header",
        default=256 * 1024,
        unit="bytes",
        ge=0,
        le=1024**3,
    )
    drain_seconds_max: Seconds = key(
        "How long a reply is read on after the client left", default=60.0, unit="seconds", ge=0, le=3600
    )
    drain_bytes_max: Whole = key(
        "How much of a reply is read on after the client left", default=16 * 1024**2, unit="bytes", ge=0, le=1024**3
    )
    jobs: dict[Name, JobSettings] = key("Jobs, by kind of resource", default=dict, shown="none")
    routes: list[RouteSettings] = key("The routes", min_length=1)
