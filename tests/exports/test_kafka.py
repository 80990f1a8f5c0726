"""What the sink for Kafka asks of its producer. Its library is an extra that is not here: a class stands in."""

import asyncio
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.exports.kafka import KafkaSink
from gateway.ledger.single import SingleLink
from gateway.settings.exports import KafkaExport
from gateway.settings.load import load
from gateway.settings.problems import SettingsError
from gateway.workers.export import pause_seconds
from tests.exports.stage import Stage, firsts
from tests.harness import write_config


class Producer:
    """Keeps messages once they are acknowledged, but for the fifth, where it is told so."""

    def __init__(self, kept: list[tuple[str, Mapping[str, Any]]], failure: Exception | None) -> None:
        self._kept = kept
        self._failure = failure
        self._sent = 0
        self._started = False

    async def start(self) -> None:
        self._started = True

    async def stop(self) -> None:
        self._started = False

    async def send(self, topic: str, *, key: bytes, value: bytes) -> "asyncio.Future[None]":
        assert (self._started, topic) == (True, "ledger")
        acknowledged: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sent += 1
        if self._failure is not None and self._sent == 5:
            acknowledged.set_exception(self._failure)
        else:
            self._kept.append((key.decode(), orjson.loads(value)))
            acknowledged.set_result(None)
        return acknowledged


async def test_messages_go_by_account_and_again_after_a_failure(link: SingleLink) -> None:
    """Each entry by its account as key, in order; a failure, with another producer, puts the batch again."""
    stage = Stage(link, "kafka")
    await stage.traffic(3, 5)
    kept: list[tuple[str, Mapping[str, Any]]] = []
    failures: list[Exception] = [RuntimeError("not enough replicas"), OSError("gone")]
    made: list[Producer] = []

    def make(settings: KafkaExport) -> Producer:
        made.append(Producer(kept, failures.pop() if failures else None))
        return made[-1]

    exporter = stage.exporter(KafkaSink(KafkaExport(servers=("kafka:9092",), topic="ledger"), make))
    await stage.ledger.note_exports()
    for failure in (1, 2):
        await exporter.round()
        await asyncio.sleep(pause_seconds(failure))
    await exporter.round()
    await exporter.close()
    assert exporter.caught_up
    assert [batch.why for batch in stage.told.batches] == ["Kafka: OSError", "Kafka: RuntimeError", ""]
    assert len(made) == 3
    assert all(key == message["account"] for key, message in kept)
    last = kept[-sum(map(len, stage.made.values())) :]
    assert firsts([(key, message["operation"]) for key, message in last]) == stage.made


@pytest.mark.skipif(find_spec("aiokafka") is not None, reason="the extra is installed")
def test_a_config_says_that_the_library_is_missing(tmp_path: Path) -> None:
    """`gateway check` names the extra, so that nobody finds out in operation."""

    def kafka(data: dict[str, Any]) -> None:
        data["export"] = {"kafka": {"servers": ["kafka:9092"], "topic": "ledger"}}

    path = write_config(tmp_path, upstream_url="http://x", redis_url="redis://x", changes={"gateway.yaml": kafka})
    with pytest.raises(SettingsError) as told:
        load(path, {})
    assert "extra `kafka`" in told.value.render()
