"""`tracing` in `gateway.yaml`: which calls are traced, and where their spans go.

Owns: its keys. Does not know: spans.
"""

from importlib.util import find_spec
from typing import Self

from pydantic import model_validator

from gateway.settings.schema.base import BaseUrl, Filled, HeaderName, Seconds, Secret, Settings, Whole, key
from gateway.settings.tracing import Otlp, Tracing


def _is_installed(library: str) -> bool:
    try:
        return find_spec(library) is not None
    except ModuleNotFoundError:  # not even a part of its name
        return False


class OtlpSettings(Settings):
    """A collector that takes OTLP over HTTP, in protobuf."""

    url: BaseUrl = key("Where spans are posted, the path included, like http://127.0.0.1:4318/v1/traces")
    headers: dict[HeaderName, Secret] = key(
        "Headers that are sent along. Values may be `file:/path`", default=dict, shown="none", max_length=20
    )
    seconds_max: Seconds = key("Longest time for a batch", default=10.0, unit="seconds", gt=0, le=300)


class TracingSettings(Settings):
    """Traces of calls, told to a collector. Needs the extra `otel` of this package."""

    otlp: OtlpSettings = key("The collector")
    sample: Seconds = key(
        "Share of calls that are recorded, from 0 to 1, whatever clients say", default=0.01, ge=0, le=1
    )
    asked_per_second_max: Seconds = key(
        "Calls of one worker that are recorded beside these, each second, because their client's `traceparent` is "
        "flagged as sampled",
        default=10.0,
        unit="calls",
        ge=0,
        le=10_000,
    )
    spans_max: Whole = key(
        "Spans of one worker that wait for the collector; more are dropped",
        default=8192,
        unit="spans",
        ge=1,
        le=1_000_000,
    )
    batch_spans_max: Whole = key("Spans in one request", default=512, unit="spans", ge=1, le=10_000)
    service: Filled = key("`service.name` of the spans", default="credit-gateway")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if not all(map(_is_installed, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common"))):
            raise ValueError("its library is not installed: it is the extra `otel` of credit-gateway")
        return self

    def compiled(self) -> Tracing:
        """As the gateway takes it."""
        return Tracing(**{**dict(self), "otlp": Otlp(**dict(self.otlp))})
