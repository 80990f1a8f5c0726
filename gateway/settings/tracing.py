"""Which calls are traced and where their spans go, compiled.

Owns: the shape of it. Does not know: YAML, spans.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Otlp:
    """A collector that takes OTLP over HTTP. `headers` may hold secrets. `seconds_max` for a batch."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    seconds_max: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """`sample` is the share of calls that are recorded, whatever clients say; see the keys for the others."""

    otlp: Otlp
    sample: float = 0.01
    asked_per_second_max: float = 10.0
    spans_max: int = 8192
    batch_spans_max: int = 512
    service: str = "credit-gateway"
