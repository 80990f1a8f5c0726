"""The exporter with real sinks: nothing is lost, each account keeps its order, a sink that fails is asked again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.exports.cloudevents import CloudEventsSink
from gateway.exports.jsonl import JsonlSink
from gateway.ledger.single import SingleLink
from gateway.ports import Watch
from gateway.settings.exports import CloudEventsExport, JsonlExport
from gateway.workers.export import Exporter, pause_seconds
from tests.exports.stage import Stage, firsts
from tests.fakes.events import EventService
from tests.ledger.ledgers import usd


@pytest.fixture
async def service() -> AsyncIterator[EventService]:
    """Somebody who takes events."""
    async with EventService() as running:
        yield running


def lines(directory: Path) -> list[dict[str, Any]]:
    """All lines of all files, in order."""
    return [orjson.loads(line) for path in sorted(directory.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def operations(directory: Path) -> dict[str, list[str]]:
    """What the files have, by account."""
    return firsts([(line["account"], line["operation"]) for line in lines(directory)])


async def all_of_it(stage: Stage, exporter: Exporter) -> None:
    """Note what is new, and export until nothing waits."""
    await stage.ledger.note_exports()
    await exporter.round()
    assert (exporter.lag_accounts, exporter.caught_up) == (0, True)


async def test_a_sink_that_is_new_is_complete_only_after_a_walk(link: SingleLink, tmp_path: Path) -> None:
    """What was made before the config had the sink waits for nobody until it is found: it is not taken for exported."""
    stage = Stage(link, "jsonl")
    await stage.traffic(3, 2)
    exporter = stage.exporter(JsonlSink(JsonlExport(directory=tmp_path)))
    await exporter.round()
    assert not exporter.complete
    await exporter.walk()
    assert (exporter.lag_accounts, exporter.complete) == (3, False)
    await exporter.round()
    assert exporter.complete and operations(tmp_path) == stage.made
    await exporter.close()


async def test_files_have_every_entry_once_in_order(link: SingleLink, tmp_path: Path) -> None:
    """Over many files, the next process going on where the last one was, a line that a crash tore included."""
    stage = Stage(link, "jsonl")
    settings = JsonlExport(directory=tmp_path, file_bytes_max=40_000)
    exporter = stage.exporter(JsonlSink(settings))
    await stage.traffic(8, 20)
    await all_of_it(stage, exporter)
    assert operations(tmp_path) == stage.made
    with pytest.raises(Exception, match="another process"):
        await JsonlSink(settings).put([await stage.ledger.exportable(sink="x", account="account-1", limit=1)])
    await exporter.close()
    last = sorted(tmp_path.glob("*.jsonl"))[-1]
    with last.open("ab") as file:
        file.write(b'{"account": "account-1", "id": "17')
    exporter = stage.exporter(JsonlSink(settings))
    await stage.traffic(9, 250)
    await all_of_it(stage, exporter)
    await exporter.close()
    found = lines(tmp_path)
    assert operations(tmp_path) == stage.made
    assert len(found) == sum(map(len, stage.made.values())), "nothing is there twice"
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.jsonl"))]
    assert len(sizes) > 5
    assert max(sizes) <= 40_000
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.jsonl")} == {0o600}
    entries = await stage.ledger.entries("account-1", limit=1000)
    mine = [line for line in found if line["account"] == "account-1"]
    assert [(line["id"], line["amount_nanos"], line["balance_nanos"], line["data"]) for line in mine] == [
        (entry.id, entry.amount, entry.balance, entry.data) for entry in entries
    ]


async def test_a_full_directory_keeps_the_export_waiting(link: SingleLink, tmp_path: Path) -> None:
    """Nothing is thrown away: ops are told, and when there is room it goes on."""
    stage = Stage(link, "jsonl")
    settings = JsonlExport(directory=tmp_path, file_bytes_max=9000, directory_bytes_max=9000)
    exporter = stage.exporter(JsonlSink(settings))
    await stage.traffic(1, 5)
    await all_of_it(stage, exporter)
    await stage.traffic(1, 12)
    await stage.ledger.note_exports()
    await exporter.round()
    assert exporter.lag_accounts == 1
    assert stage.told.batches[-1].outcome == "failed"
    assert "is full" in stage.told.batches[-1].why
    had = lines(tmp_path)
    for path in list(tmp_path.glob("*.jsonl"))[:1]:
        path.rename(tmp_path / "taken-out")
    await asyncio.sleep(pause_seconds(1))
    await all_of_it(stage, exporter)
    await exporter.close()
    assert firsts([(line["account"], line["operation"]) for line in had + lines(tmp_path)]) == stage.made


async def test_events_are_cloudevents(link: SingleLink, service: EventService) -> None:
    """Batched: an event for each entry, one for each item of a charge, with all attributes that the standard asks for;
    one by one, and of entries only, where the config says so.
    """
    stage = Stage(link, "cloudevents")
    await stage.traffic(2, 3)
    await stage.ledger.put_back_exports(sink="cloudevents", accounts={})
    many = stage.exporter(CloudEventsSink(CloudEventsExport(url=service.url, bearer_token="t0ken", events_max=7)))
    await all_of_it(stage, many)
    await many.close()
    assert {sent["content-type"] for sent in service.requests} == {"application/cloudevents-batch+json"}
    assert {sent["authorization"] for sent in service.requests} == {"Bearer t0ken"}
    assert len(service.requests) == 3, "8 entries and 12 items, seven at a time"
    of_entries = [event for event in service.events if event["type"] == "gateway.ledger.entry"]
    assert firsts([(event["subject"], event["data"]["operation"]) for event in of_entries]) == stage.made
    usage = [event for event in service.events if event["type"] == "gateway.usage"]
    assert len(usage) == 12
    (entry, *_) = await stage.ledger.entries("account-0", after=(await stage.ledger.entries("account-0"))[0].id)
    event = next(event for event in usage if event["id"] == f"account-0/{entry.id}/1")
    assert event.pop("data") == {
        "account": "account-0", "entry": entry.id, "item": 1, "at": event["time"], "sku": "sku-1", "quantity": "1.5",
        "unit": "second", "unit_price": "0.21 per_hour", "amount_nanos": 16_666_666, "product": "speech-to-text",
        "route": "transcribe", "key_id": "account-0-key", "call_id": "account-0-1", "price_version": "2026-11-01",
        "rate_card": "", "basis": "reported",
    }  # fmt: skip
    assert event == {
        "specversion": "1.0", "id": f"account-0/{entry.id}/1", "source": "credit-gateway", "type": "gateway.usage",
        "subject": "account-0", "time": event["time"], "datacontenttype": "application/json",
    }  # fmt: skip
    assert event["time"].endswith("Z")
    assert len({event["id"] for event in service.events}) == len(service.events)

    service.requests.clear()
    await stage.traffic(1, 2)
    one = CloudEventsExport(url=service.url, mode="structured", events=("entries",))
    single = stage.exporter(CloudEventsSink(one))
    await all_of_it(stage, single)
    await single.close()
    assert [sent["content-type"] for sent in service.requests] == ["application/cloudevents+json"] * 2
    assert "authorization" not in service.requests[0]


async def test_a_service_that_fails_is_asked_again(link: SingleLink, service: EventService) -> None:
    """After a pause that doubles; in the same order; what it had kept all the same comes twice, under the same id."""
    stage = Stage(link, "cloudevents")
    await stage.traffic(3, 4)
    sink = CloudEventsSink(CloudEventsExport(url=service.url, events=("entries",), events_max=5))
    exporter = stage.exporter(sink)
    service.answers = [204, 599, 503, 204, 404]
    await stage.ledger.note_exports()
    for failures in range(1, 4):
        await exporter.round()
        assert exporter.lag_accounts == 3
        await exporter.round()  # it is left alone
        assert [batch.outcome for batch in stage.told.batches] == ["failed"] * failures
        await asyncio.sleep(pause_seconds(failures))
    assert (await stage.ledger.export_lag(sink="cloudevents")).seconds > pause_seconds(3)
    await stage.charge("account-1", 1)
    await all_of_it(stage, exporter)
    assert [batch.why for batch in stage.told.batches] == ["answered 599", "answered 503", "answered 404", ""]
    assert firsts([(event["subject"], event["data"]["operation"]) for event in service.events]) == stage.made
    once = {event["id"] for event in service.events}
    assert len(once) == sum(map(len, stage.made.values())) < len(service.events)
    assert [pause_seconds(failures) for failures in (0, 1, 2, 9, 99)] == [0, 0.5, 1, 60, 60]
    await exporter.close()


async def test_what_a_killed_process_did_not_note_is_found(link: SingleLink, tmp_path: Path) -> None:
    """The walk over all accounts lets those wait that are behind, and no others; a second process does not export."""
    stage = Stage(link, "jsonl")
    await stage.traffic(5, 2)
    exporter = stage.exporter(JsonlSink(JsonlExport(directory=tmp_path)))
    await exporter.walk()
    await all_of_it(stage, exporter)
    await Stage.charge(stage, "account-3", 2)
    stage.ledger._changed.clear()  # as if it had been killed
    await exporter.round()
    assert operations(tmp_path) != stage.made
    await exporter.walk()
    assert (await stage.ledger.export_lag(sink="jsonl")).accounts == 1
    other = Stage(link, "jsonl").exporter(JsonlSink(JsonlExport(directory=tmp_path / "other")))
    await other.round()
    await other.walk()
    assert not (tmp_path / "other").exists()
    await exporter.round()
    assert operations(tmp_path) == stage.made
    await exporter.close()


async def test_an_entry_that_cannot_be_read_holds_up_no_other_account(link: SingleLink, tmp_path: Path) -> None:
    """Ops are told of it, and it is found again by every walk."""
    stage = Stage(link, "jsonl")
    await stage.traffic(3, 1)
    await link.call("XADD", "gw:{account-1}:ledger", "*", "v", "2", "kind", "charge")
    exporter = stage.exporter(JsonlSink(JsonlExport(directory=tmp_path)))
    await stage.ledger.note_exports()
    await exporter.round()
    assert sorted(operations(tmp_path)) == ["account-0", "account-2"]
    assert stage.told.events == ["export_unreadable"]
    await exporter.walk()
    assert (await stage.ledger.export_lag(sink="jsonl")).accounts == 1
    await exporter.close()


async def test_old_entries_are_forgotten_behind_the_export(link: SingleLink, tmp_path: Path) -> None:
    """The walk forgets what all sinks have; the files have it all."""
    stage = Stage(link, "jsonl")
    await stage.traffic(2, 5)
    exporter = stage.exporter(JsonlSink(JsonlExport(directory=tmp_path)), trims=(["jsonl"], 0))
    await all_of_it(stage, exporter)
    await stage.charge("account-0", 1)
    await asyncio.sleep(0.005)
    await exporter.walk()
    assert [len(await stage.ledger.entries(account)) for account in stage.made] == [1, 0]
    await all_of_it(stage, exporter)
    assert operations(tmp_path) == stage.made
    assert [await stage.ledger.verify(account) for account in stage.made] == [[], []]
    await exporter.close()


async def test_no_sink_but_the_database_is_given_secrets(
    link: SingleLink, tmp_path: Path, service: EventService
) -> None:
    """What is stored beside entries (digests of keys, webhooks with their secrets) is in no file and no event."""
    stage = Stage(link, "jsonl", "cloudevents")
    await stage.traffic(1, 3)
    watch = Watch(id="low", kind="balance_below", amount=usd(1), channel="hook", data={"secret": "whsec_s3cret"})
    await stage.ledger.put_watch(account="account-0", watch=watch)
    sinks = (JsonlSink(JsonlExport(directory=tmp_path)), CloudEventsSink(CloudEventsExport(url=service.url)))
    for sink in sinks:
        exporter = stage.exporter(sink)
        await all_of_it(stage, exporter)
        await exporter.close()
    said = b"".join(path.read_bytes() for path in tmp_path.iterdir()) + orjson.dumps(service.events)
    assert b"account-0-1" in said
    assert b"s3cret" not in said
    assert b"account-0-digest" not in said
