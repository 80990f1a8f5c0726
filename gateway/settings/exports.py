"""Where the ledger is exported to, compiled.

Owns: the shape of it. Does not know: YAML, or how anything is kept there.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EventKind = Literal["entries", "usage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresExport:
    """A PostgreSQL database. `seconds_max` for a batch; `migrate`: its tables are made as they should be."""

    url: str = field(repr=False)
    schema: str = "gateway"
    seconds_max: float = 30.0
    migrate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonlExport:
    """Files of JSON lines. Bytes as named."""

    directory: Path
    file_bytes_max: int = 64 * 1024 * 1024
    directory_bytes_max: int = 16 * 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudEventsExport:
    """A service that takes CloudEvents. `events_max` in one request, `seconds_max` for its answer."""

    url: str
    bearer_token: str = field(default="", repr=False)
    source: str = "credit-gateway"
    mode: Literal["batched", "structured"] = "batched"
    events: tuple[EventKind, ...] = ("entries", "usage")
    events_max: int = 100
    seconds_max: float = 30.0


KafkaMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaExport:
    """A topic of Kafka. `username` "": nobody signs in. `seconds_max` for a batch."""

    servers: tuple[str, ...]
    topic: str
    tls: bool = True
    username: str = ""
    password: str = field(default="", repr=False)
    mechanism: KafkaMechanism = "SCRAM-SHA-512"
    seconds_max: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exports:
    """Where the ledger is exported to. `keep_days` None: no entry is forgotten. `serve`: `gateway serve` exports."""

    serve: bool = True
    keep_days: int | None = None
    walk_accounts: int = 200
    postgres: PostgresExport | None = None
    jsonl: JsonlExport | None = None
    cloudevents: CloudEventsExport | None = None
    kafka: KafkaExport | None = None

    @property
    def sinks(self) -> tuple[str, ...]:
        """The names of those that there are."""
        return tuple(name for name in ("postgres", "jsonl", "cloudevents", "kafka") if getattr(self, name) is not None)
