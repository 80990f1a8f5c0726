"""Exports to a topic of Kafka: a message for each entry, by the account's key, so that an account is in one partition.

Owns: the form of the messages, and that all are acknowledged by all replicas in sync before they count as kept. The
library is the extra `kafka`: it is loaded when it is needed, and the config is refused where it is missing.
Does not know: partitions, or who reads the topic. Who does tells a repeat by `account` and `id`.
"""

import asyncio
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import orjson

from gateway.exports.lines import entry_line
from gateway.ports import ExportFailed, ExportPage
from gateway.settings.exports import KafkaExport


class KafkaSink:
    """See ports.Sink. `make` makes a producer."""

    name = "kafka"
    keeps_standing = False

    def __init__(self, settings: KafkaExport, make: Callable[[KafkaExport], Any] | None = None) -> None:
        self._settings = settings
        self._make = make or _producer
        self._producer: Any = None

    def __repr__(self) -> str:
        return f"<KafkaSink {self._settings.topic} {'open' if self._producer else 'closed'}>"

    async def put(self, pages: Sequence[ExportPage]) -> None:
        """See ports.Sink. After a failure the producer is another one: what it still had is put again."""
        try:
            async with asyncio.timeout(self._settings.seconds_max):
                await self._put(pages)
        except (RuntimeError, OSError, TimeoutError) as error:  # the library's faults are RuntimeErrors
            await self.close()
            raise ExportFailed(f"Kafka: {type(error).__name__}") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """See ports.Sink. A producer that does not end in time is left to itself."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                async with asyncio.timeout(1):
                    await producer.stop()
            except (RuntimeError, OSError, TimeoutError):
                return

    async def _put(self, pages: Sequence[ExportPage]) -> None:
        if self._producer is None:
            self._producer = self._make(self._settings)
            await self._producer.start()
        sent = [
            await self._producer.send(
                self._settings.topic, key=page.account.encode(), value=orjson.dumps(entry_line(page.account, entry))
            )
            for page in pages
            for entry in page.entries
        ]
        await asyncio.gather(*sent)


def _producer(settings: KafkaExport) -> Any:
    library = import_module("aiokafka")
    options: dict[str, Any] = {}
    if settings.tls:
        options["ssl_context"] = import_module("aiokafka.helpers").create_ssl_context()
    if settings.username:
        options |= {
            "sasl_mechanism": settings.mechanism,
            "sasl_plain_username": settings.username,
            "sasl_plain_password": settings.password,
        }
    protocol = ("SASL_" if settings.username else "") + ("SSL" if settings.tls else "PLAINTEXT")
    return library.AIOKafkaProducer(
        bootstrap_servers=list(settings.servers),
        client_id="credit-gateway",
        enable_idempotence=True,
        security_protocol=protocol,
        **options,
    )
