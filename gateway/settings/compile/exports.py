"""Exports: where the ledger is kept beside Redis.

Owns: nothing but the way from keys to the runtime. Does not know: sinks.
"""

from pathlib import Path

from gateway.settings.exports import CloudEventsExport, Exports, JsonlExport, KafkaExport, PostgresExport
from gateway.settings.schema.exports import ExportSettings, PostgresSettings


def _postgres(settings: PostgresSettings) -> PostgresExport:
    return PostgresExport(
        url=settings.url, schema=settings.db_schema, seconds_max=settings.seconds_max, migrate=settings.migrate
    )


def compile_exports(settings: ExportSettings) -> Exports:
    """The exports, compiled."""
    postgres = settings.postgres
    kafka = settings.kafka
    jsonl, events = settings.jsonl, settings.cloudevents
    return Exports(
        serve=settings.serve,
        keep_days=settings.keep_days,
        walk_accounts=settings.walk_accounts,
        postgres=None if postgres is None else _postgres(postgres),
        jsonl=None if jsonl is None else JsonlExport(**{**dict(jsonl), "directory": Path(jsonl.directory)}),
        kafka=None if kafka is None else KafkaExport(**{**dict(kafka), "servers": tuple(kafka.servers)}),
        cloudevents=None if events is None else CloudEventsExport(**{**dict(events), "events": tuple(events.events)}),
    )
