"""The official streaming clients, unmodified, and a plain WebSocket library, against the gateway."""

import asyncio
import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import websockets
from assemblyai.streaming.v3 import (
    SpeechModel,
    StreamingClient,
    StreamingClientOptions,
    StreamingEvents,
    StreamingParameters,
)

from gateway.core.money import Nanos, format_usd, parse_usd
from tests.harness import Running, running
from tests.pipeline.helpers import NO_CREDIT, charges, in_order
from tests.pipeline.sockets import AGENT_SECOND, PRO_SECOND, slices

pytestmark = [
    pytest.mark.system,
    # The official client's own use of `websockets`.
    pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:ConnectionClosed.code is deprecated:DeprecationWarning"),
]
TENTH = bytes(3200)


class Speech:
    """The official client, with everything that it was told."""

    def __init__(self, gw: Running, **credential: Any) -> None:
        host = gw.url.replace("http", "ws")
        self.client = StreamingClient(StreamingClientOptions(api_host=host, **credential))
        self.seen: list[Any] = []
        self.ended = threading.Event()
        for kind in (StreamingEvents.Begin, StreamingEvents.Turn, StreamingEvents.Termination, StreamingEvents.Error):
            self.client.on(kind, self._note)

    def _note(self, _client: StreamingClient, event: Any) -> None:
        self.seen.append(event)
        if type(event).__name__ in ("TerminationEvent", "RealTimeError"):
            self.ended.set()

    @property
    def kinds(self) -> list[str]:
        """The types of all events."""
        return [type(event).__name__ for event in self.seen]

    def connect(self, **parameters: Any) -> None:
        """Open the session."""
        self.client.connect(
            StreamingParameters(
                sample_rate=16000,
                speech_model=SpeechModel.u3_rt_pro,
                speaker_labels_revision_interval_ms=None,
                **parameters,
            )
        )


async def in_thread(work: Callable[[], None]) -> None:
    """The official client blocks."""
    await asyncio.to_thread(work)


async def test_the_official_client_is_served_and_charged(gw: Running) -> None:
    """Connect, stream a second of audio, terminate: turns come back, and the reported seconds are paid."""
    key = await gw.open_account("a", credit="1")
    speech = Speech(gw, api_key=key)

    def work() -> None:
        speech.connect()
        for _ in range(10):
            speech.client.stream(TENTH)
        speech.client.disconnect(terminate=True)

    await in_thread(work)
    assert speech.kinds == ["BeginEvent", "TurnEvent", "TurnEvent", "TerminationEvent"]
    reported = speech.seen[-1].session_duration_seconds
    await in_order(gw, "a", balance=Nanos(parse_usd("1") - reported * PRO_SECOND))
    assert gw.sandbox.state.counts["foreign_credentials"] == 0


async def test_the_official_client_takes_a_temporary_token(gw: Running) -> None:
    """It sends the token in the header; the account of its key pays."""
    key = await gw.open_account("a", credit="1")
    token = (await gw.call("GET", "/v3/token?expires_in_seconds=60", key)).json["token"]
    speech = Speech(gw, token=token)

    def work() -> None:
        speech.connect()
        speech.client.stream(TENTH)
        speech.client.disconnect(terminate=True)

    await in_thread(work)
    assert speech.kinds[-1] == "TerminationEvent"
    await in_order(gw, "a", balance=Nanos(parse_usd("1") - PRO_SECOND))


async def test_the_official_client_shows_why_it_is_refused(gw: Running) -> None:
    """No credit: the client's error has the sentence and the code of the vendor."""
    key = await gw.open_account("a", credit="0")
    speech = Speech(gw, api_key=key)

    def work() -> None:
        speech.connect()
        assert speech.ended.wait(10)
        speech.client.disconnect()

    await in_thread(work)
    (error,) = speech.seen
    assert (str(error), error.code) == (f"Unauthorized Connection: {NO_CREDIT}", 1008)


async def test_the_official_client_is_cut_when_its_credit_is_gone(tmp_path: Any, empty_redis: str) -> None:
    """Two seconds of credit: results up to the end, then the reason; exactly the credit is gone."""
    changes = slices(slice_seconds=1, renew_before_seconds=0.3, warn_seconds=0, grace_seconds=1)
    async with running(tmp_path, empty_redis, changes=changes) as gw:
        key = await gw.open_account("a", credit=format_usd(Nanos(2 * PRO_SECOND)))
        speech = Speech(gw, api_key=key)
        errors: list[Any] = []
        speech.client.on(StreamingEvents.Error, lambda _, error: errors.append(error))

        def work() -> None:
            speech.connect()
            for _ in range(100):
                if errors:
                    break
                speech.client.stream(TENTH)
                threading.Event().wait(0.1)
            speech.client.disconnect()

        await in_thread(work)
        assert "TurnEvent" in speech.kinds
        assert (str(errors[0]), errors[0].code) == (f"Unauthorized Connection: {NO_CREDIT}", 1008)
        await in_order(gw, "a", balance=Nanos(0))


async def test_a_voice_agent_over_a_plain_library(gw: Running) -> None:
    """The whole flow of the protocol with `websockets`: ready, speech, a tool, a reply, pings, the end."""
    key = await gw.open_account("a", credit="1")
    tool = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}}
    url = gw.url.replace("http", "ws") + "/v1/ws"
    kinds: list[str] = []
    seconds = 0.0
    async with websockets.connect(url, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
        await socket.send(json.dumps({"type": "session.update", "session": {"system_prompt": "Hi", "tools": [tool]}}))
        kinds.append(json.loads(await socket.recv())["type"])
        await (await socket.ping(b"are you there"))
        for _ in range(25):
            audio = base64.b64encode(bytes(2400)).decode()
            await socket.send(json.dumps({"type": "input.audio", "audio": audio}))
        async for text in socket:
            event = json.loads(text)
            kinds.append(event["type"])
            if event["type"] == "tool.call":
                await socket.send(json.dumps({"type": "tool.result", "call_id": event["call_id"], "result": "{}"}))
            elif event["type"] == "reply.done":
                await socket.send(json.dumps({"type": "session.end"}))
            elif event["type"] == "session.ended":
                seconds = event["session_duration_seconds"]
        assert (socket.close_code, socket.close_reason) == (1000, "client_end")
    assert kinds[0] == "session.ready"
    for kind in ("transcript.user", "tool.call", "reply.started", "reply.audio", "transcript.agent", "session.ended"):
        assert kind in kinds
    (entry,) = await charges(gw, "a")
    assert entry["amount"] == pytest.approx(seconds * AGENT_SECOND, abs=1)
