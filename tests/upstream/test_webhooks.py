"""The courier of clients' webhooks: what each answer of theirs means."""

import pytest

from gateway.ports import Dead, Delivered, Delivery, Retry
from gateway.upstream.outward import Outward
from gateway.workers.outbox import decide
from gateway.workers.webhooks import WebhookCourier
from tests.fakes.upstream import Line, ScriptedUpstream, answering, message

BODY = '{"transcript_id": "é", "status":"completed"}'


def delivery(url: str, **payload: str) -> Delivery:
    """A client's webhook."""
    told = {"url": url, "body": BODY, "type": "application/json", **payload}
    return Delivery(account="a", id="transcript:t:completed", channel="webhook", payload=told, created_ms=0, due_ms=0)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Delivered()),
        (204, Delivered()),
        (299, Delivered()),
        (302, Retry(why="answered 302")),
        (400, Dead(why="answered 400")),
        (404, Dead(why="answered 404")),
        (429, Dead(why="answered 429")),
        (500, Retry(why="answered 500")),
        (503, Retry(why="answered 503")),
    ],
)
async def test_what_an_answer_means(status: int, outcome: Delivered | Retry | Dead) -> None:
    """2xx is delivered, any 4xx is the end, everything else is tried again."""
    async with answering(message(f"HTTP/1.1 {status} X")) as server, Outward(allow=["localhost"]) as outward:
        assert await WebhookCourier(outward).deliver(delivery(server.url)) == outcome
        assert server.requests[0].body == BODY.encode()


async def test_the_clients_header_goes_with_it() -> None:
    """Its name and value as they were given, in place of one of ours if need be."""
    async with answering(message("HTTP/1.1 200 OK")) as server, Outward(allow=["localhost"]) as outward:
        courier = WebhookCourier(outward)
        for name, value in (("X-Secret", "a b"), ("content-type", "text/plain"), ("Authorization", "Bearer x")):
            assert await courier.deliver(delivery(server.url, name=name, value=value)) == Delivered()
        for request, (name, value, kind) in zip(
            server.requests,
            (
                ("X-Secret", "a b", "application/json"),
                ("Content-Type", "text/plain", "text/plain"),
                ("Authorization", "Bearer x", "application/json"),
            ),
            strict=True,
        ):
            assert (request.one(name), request.one("Content-Type")) == (value.encode(), kind.encode())


async def test_nobody_there_is_tried_again_and_an_address_inside_is_not() -> None:
    """A server that is away may come back; a name that leads inside is no one's to call."""

    async def cut(line: Line) -> None:
        line.cut()

    async with ScriptedUpstream(cut) as server, Outward(allow=["localhost"]) as outward:
        assert isinstance(await WebhookCourier(outward).deliver(delivery(server.url)), Retry)
        assert isinstance(await WebhookCourier(Outward()).deliver(delivery("https://127.0.0.1/")), Dead)
        assert server.lines == 1


def test_a_webhook_is_tried_ten_times() -> None:
    """As often as the service itself tries: the tenth failure is the last."""
    pauses = WebhookCourier(Outward()).pauses
    outcomes = [decide(Retry(why="answered 500"), attempts, pauses) for attempts in range(10)]
    assert [type(outcome) for outcome in outcomes] == [Retry] * 9 + [Dead]
