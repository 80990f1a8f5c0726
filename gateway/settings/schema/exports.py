"""`export` in `gateway.yaml`: where the ledger is kept beside Redis.

Owns: the keys of each sink. Does not know: how they are reached.
"""

import re
from importlib.util import find_spec
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, model_validator

from gateway.settings.exports import EventKind, KafkaMechanism
from gateway.settings.schema.base import BaseUrl, Filled, Flag, Seconds, Secret, Settings, Whole, Word, key, plain_text

_MEBIBYTE = 1024 * 1024


def _postgres_url(text: str) -> str:
    if urlsplit(text).scheme not in ("postgresql", "postgres"):
        raise ValueError("must be the URL of a database, like postgresql://user:password@127.0.0.1:5432/ledger")
    return text


def _schema(text: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{0,47}", text):
        raise ValueError("the name of a schema is lower-case letters, digits and underscores")
    return text


class PostgresSettings(Settings):
    """A PostgreSQL database, 14 or later."""

    url: Annotated[Secret, AfterValidator(_postgres_url)] = key("Where it is. May be `file:/path`")
    db_schema: Annotated[Filled, AfterValidator(_schema)] = key(
        "Schema that the tables are in", default="gateway", alias="schema"
    )
    seconds_max: Seconds = key("Longest time for a batch", default=30.0, unit="seconds", gt=0, le=300)
    migrate: Flag = key("Make and change tables by itself; false: only `gateway export migrate` does", default=True)


class JsonlSettings(Settings):
    """Files of JSON lines: one for each entry."""

    directory: Filled = key("Where they are, relative to the working directory; on each machine that may export")
    file_bytes_max: Whole = key(
        "A file that would grow beyond this is left as it is, and the next one begun", default=64 * _MEBIBYTE,
        unit="bytes", ge=65_536, le=64 * 1024 * _MEBIBYTE,
    )  # fmt: skip
    directory_bytes_max: Whole = key(
        "All files together; then the export waits until some are taken out", default=16 * 1024 * _MEBIBYTE,
        unit="bytes", ge=_MEBIBYTE, le=1024 * 1024 * 1024 * _MEBIBYTE,
    )  # fmt: skip

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.directory_bytes_max < self.file_bytes_max:
            raise ValueError("directory_bytes_max must be at least file_bytes_max")
        return self


class CloudEventsSettings(Settings):
    """A service that takes CloudEvents 1.0 over HTTP, in JSON."""

    url: BaseUrl = key("Where events are posted")
    bearer_token: Secret = key("Bearer token that is sent along. May be `file:/path`", default="", shown="none")
    source: Filled = key("`source` of every event", default="credit-gateway")
    mode: Annotated[Literal["batched", "structured"], BeforeValidator(plain_text)] = key(
        "`batched`: many events in a request; `structured`: one", default="batched"
    )
    events: Annotated[list[EventKind], AfterValidator(lambda given: list(dict.fromkeys(given)))] = key(
        "What there are events of: `entries` of the ledger, and `usage`, each item of a charge",
        default=lambda: ["entries", "usage"],
        shown="[entries, usage]",
        min_length=1,
    )
    events_max: Whole = key("Events in one request", default=100, unit="events", ge=1, le=1000)
    seconds_max: Seconds = key("Longest wait for an answer", default=30.0, unit="seconds", gt=0, le=300)


def _server(text: str) -> str:
    if not re.fullmatch(r"[^\s:,/]+:[0-9]{1,5}", text):
        raise ValueError("must be a host with its port, like kafka-1.internal:9092")
    return text


def _topic(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9._-]{1,249}", text):
        raise ValueError("the name of a topic is letters, digits, dots, dashes and underscores (at most 249)")
    return text


class KafkaSettings(Settings):
    """A topic of Kafka. Needs the extra `kafka` of this package."""

    servers: list[Annotated[Filled, AfterValidator(_server)]] = key("Some of its servers", min_length=1)
    topic: Annotated[Filled, AfterValidator(_topic)] = key("Where messages go, by account")
    tls: Flag = key("Speak TLS, and check the servers' certificates", default=True)
    username: Word = key("Whom we sign in as", default="", shown="nobody")
    password: Secret = key("The password. May be `file:/path`", default="", shown="none")
    mechanism: Annotated[KafkaMechanism, BeforeValidator(plain_text)] = key(
        "How we sign in: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`", default="SCRAM-SHA-512"
    )
    seconds_max: Seconds = key("Longest time for a batch", default=30.0, unit="seconds", gt=0, le=300)

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if find_spec("aiokafka") is None:
            raise ValueError("its library is not installed: it is the extra `kafka` of credit-gateway")
        if self.username and not self.password:
            raise ValueError("a username needs its password")
        if self.username and not self.tls:
            raise ValueError("a password is not sent without TLS")
        return self


class ExportSettings(Settings):
    """Where entries of the ledger are kept beside Redis. Without a sink nothing is exported."""

    serve: Flag = key("`gateway serve` exports; false: only `gateway export run` does", default=True)
    keep_days: Whole | None = key(
        "Entries older than this are forgotten in Redis, once every sink has them", default=None, unit="days",
        shown="never", ge=62, le=3660,
    )  # fmt: skip
    walk_accounts: Whole = key(
        "Accounts looked at each second for what a killed process did not tell, and for what may be forgotten",
        default=200, unit="accounts", ge=1, le=100_000,
    )  # fmt: skip
    postgres: PostgresSettings | None = key("A PostgreSQL database", default=None, shown="off")
    jsonl: JsonlSettings | None = key("Files of JSON lines", default=None, shown="off")
    cloudevents: CloudEventsSettings | None = key("A service that takes CloudEvents", default=None, shown="off")

    kafka: KafkaSettings | None = key("A topic of Kafka", default=None, shown="off")

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.keep_days is not None and not (self.postgres or self.jsonl or self.cloudevents or self.kafka):
            raise ValueError("keep_days needs a sink that keeps what is forgotten here")
        return self
