"""What of a request, a reply and a callback speaks of a client's webhook: plain functions of values."""

from dataclasses import replace

import orjson
import pytest

from gateway.core.errors import Refused
from gateway.ledger.rules import check_delivery
from gateway.pipeline.callbacks import echo, known_seconds, notice, swapped, wish
from gateway.pipeline.called_back import as_client_sees
from gateway.ports import Resource, ResourceRef
from gateway.settings.jobs import Callback
from gateway.settings.load import load
from tests.settings.project import ROOT

JOB = next(route.job for route in load(ROOT / "gateway.yaml", {}).routes if route.job is not None)
CALLBACK = Callback(
    url="hook",
    header_name="name",
    header_value="value",
    has_header="has",
    answered="answered",
    id="id",
    status="status",
)
PLAIN = Callback(url="hook", id="id", status="status")
RECORD = Resource(ref=ResourceRef(kind="transcript", id="t-1"), state="settled", product="speech-to-text", hold="c-1")
GIVEN = {"url": "https://example.com/", "name": "X-Hook", "value": "s"}


@pytest.mark.parametrize(
    ("request_", "given"),
    [
        ({}, None),
        ([], None),
        ({"hook": None}, None),
        ({"hook": "", "name": "X"}, None),
        ({"hook": "u"}, {"url": "u"}),
        ({"hook": "u", "name": "X"}, {"url": "u", "name": "X", "value": ""}),
        ({"hook": "u", "name": "X", "value": "v"}, {"url": "u", "name": "X", "value": "v"}),
        ({"hook": "u", "name": None, "value": "v"}, {"url": "u"}),
    ],
)
def test_what_a_client_gives(request_: object, given: dict[str, str] | None) -> None:
    """A URL, with a header that has a name, or nothing."""
    assert wish(CALLBACK, request_) == given


@pytest.mark.parametrize(
    "wrong", [{"hook": 1}, {"hook": ["u"]}, {"hook": "u", "name": 1}, {"hook": "u", "name": "X", "value": {}}]
)
def test_what_is_no_text_is_refused(wrong: dict[str, object]) -> None:
    """A service might take it for something."""
    assert isinstance(wish(CALLBACK, wrong), Refused)


def test_our_url_stands_in_the_clients_place() -> None:
    """The client's header is gone, whatever its place, and every other byte is where it was."""
    for text, swap in (
        (b'{"hook": "u", "name":"X" , "value":"v", "a" : 1.0}', b'{"hook": "ours", "a" : 1.0}'),
        (b'{"value":"v","hook":null,"b":[{"hook":1}]}', b'{"hook":"ours","b":[{"hook":1}]}'),
        (b'{"a":"}"}', b'{"a":"}","hook":"ours"}'),
        (b"{}", b'{"hook":"ours"}'),
    ):
        assert swapped(CALLBACK, text, orjson.loads(text), "ours") == swap
    assert swapped(PLAIN, b'{"name":1}', {"name": 1}, "ours") == b'{"name":1,"hook":"ours"}'


def test_replies_say_what_the_client_gave() -> None:
    """In the fields that the product has for it; never the header's value, nor the status that we answered."""
    assert echo(CALLBACK, GIVEN) == {"hook": GIVEN["url"], "name": "X-Hook", "has": True, "answered": None}
    assert echo(CALLBACK, {}) == {"hook": None, "name": None, "has": False, "answered": None}
    assert echo(PLAIN, GIVEN) == {"hook": GIVEN["url"]}


def test_a_notice_is_one_by_job_and_status() -> None:
    """Who wants nothing gets none; without the service's words, it is told in its form."""
    assert notice(CALLBACK, RECORD, "completed") is None
    assert notice(CALLBACK, replace(RECORD, facts={"callback": {}}), "completed") is None
    wanted = replace(RECORD, facts={"callback": GIVEN})
    ours, theirs = notice(CALLBACK, wanted, "completed"), notice(CALLBACK, wanted, "completed", b"{ }", "text/json")
    assert ours is not None
    assert theirs is not None
    assert ours.id == theirs.id == "transcript:t-1:completed"
    assert ours.payload == {**GIVEN, "body": '{"id":"t-1","status":"completed"}', "type": "application/json"}
    assert theirs.payload == {**GIVEN, "body": "{ }", "type": "text/json"}
    long = notice(CALLBACK, wanted, "s" * 1000)
    assert long is not None
    assert len(long.id) < 100


def test_a_client_sees_the_id_that_it_knows() -> None:
    """To the byte what the service said, but for an id that is another one to the client."""
    for body, seen in (
        (b'{ "transcript_id":"t-1" }', b'{ "transcript_id":"t-1" }'),
        (b'{"status": "redacted_audio_ready"}', b'{"status": "redacted_audio_ready"}'),
        (b'{ "transcript_id" : "theirs", "status": "completed"}', b'{ "transcript_id" : "t-1", "status": "completed"}'),
    ):
        assert as_client_sees(JOB, RECORD, body) == seen


def test_callbacks_are_taken_for_longer_than_jobs_are_followed() -> None:
    """A job may be looked at for twice its time; a callback may come later still."""
    assert known_seconds(JOB) > 2 * JOB.seconds_max


@pytest.mark.parametrize("text", ["projects/x/jobs/1", "a b", "é=", "", "-", "x" * 500, "line\n"])
def test_a_notice_has_an_id_that_the_outbox_takes_whatever_a_service_calls_its_jobs(text: str) -> None:
    """Else nobody could be told of the job's end, and it could not end. Of other jobs, or states, it is another id."""
    job = replace(RECORD, ref=ResourceRef(kind="transcript", id=text), facts={"callback": GIVEN})
    plain = replace(RECORD, facts={"callback": GIVEN})
    told = [notice(CALLBACK, job, "done"), notice(CALLBACK, plain, text), notice(CALLBACK, plain, f"{text}!")]
    ids = {each.id for each in told if each is not None}
    assert len(ids) == len(told)
    for each in ids:
        check_delivery(each, "webhook", b"", 0.0)
