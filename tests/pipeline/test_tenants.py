"""Tenant isolation: a foreign id answers exactly as an unknown one, everywhere that an id can be given."""

import asyncio
import re
from itertools import product
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from gateway.core.money import parse_usd
from tests.harness import Got, Running
from tests.pipeline.helpers import CHAT, CHAT_PATH, charges, finished, in_order, submitted

BELOW = ("", "/sentences", "/paragraphs", "/srt", "/vtt", "/word-search?words=the", "/redacted-audio")
LIST = "/v2/transcript"


def seen_by_customer(got: Got) -> tuple[int, bytes, list[tuple[str, str]]]:
    """Everything of an answer that is not this one call's own."""
    own = {"date", "x-gateway-call-id", "ratelimit"}
    body = got.body.replace(got.headers["X-Gateway-Call-Id"].encode(), b"<call>")
    return got.status, body, sorted((name, value) for name, value in got.headers.items() if name.lower() not in own)


@pytest.mark.parametrize(("method", "below"), [*product(("GET", "HEAD"), BELOW), ("DELETE", "")])
async def test_a_foreign_transcript_answers_like_an_unknown_one(gw: Running, method: str, below: str) -> None:
    """To the byte, on every sub-resource and verb; the upstream is not even asked, and nothing happens to it."""
    owner, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
    path = await submitted(gw, owner, redact_pii=True, redact_pii_audio=True)
    await asyncio.sleep(0.08)
    asked = len(await gw.seen())
    foreign = await gw.call(method, path + below, other)
    unknown = await gw.call(method, f"{LIST}/{uuid4()}{below}", other)
    assert foreign.status == 404
    assert foreign.code == "not_found"
    assert seen_by_customer(foreign) == seen_by_customer(unknown)
    assert len(await gw.seen()) == asked
    assert not await charges(gw, "b")
    assert (await finished(gw, owner, path)).charge is not None, "it is still there, and its owner's to pay"
    await in_order(gw, "b", balance=parse_usd("10"))


@pytest.mark.parametrize("path", ["/v1/understanding", "/v1/understanding/validate", CHAT_PATH])
async def test_a_foreign_transcript_in_a_body_answers_like_an_unknown_one(gw: Running, path: str) -> None:
    """Wherever a body may name a transcript it must be the caller's own."""
    owner, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
    made = await submitted(gw, owner)
    await finished(gw, owner, made)
    asked = len(await gw.seen())

    async def call(key: str, transcript: str) -> Got:
        body: dict[str, Any] = {"transcript_id": transcript}
        if path == CHAT_PATH:
            body |= CHAT
        else:
            body["speech_understanding"] = {"request": {"translation": {"target_languages": ["es"]}}}
        return await gw.call("POST", path, key, json=body)

    foreign, unknown = await call(other, made.rpartition("/")[2]), await call(other, str(uuid4()))
    assert (foreign.status, foreign.code) == (404, "not_found")
    assert seen_by_customer(foreign) == seen_by_customer(unknown)
    assert len(await gw.seen()) == asked
    assert (await call(owner, made.rpartition("/")[2])).status == 200
    await in_order(gw, "b", balance=parse_usd("10"))


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf{"transcript_id": "ID", "speech_understanding": {"request": {}}}',
        b'[{"transcript_id": "ID"}]',
        b'{"transcript_id": "ID", "speech_understanding": {"request": {"translation": NaN}}}',
    ],
)
async def test_a_body_that_we_cannot_read_is_not_forwarded(gw: Running, body: bytes) -> None:
    """Where a body may name a resource, one that only the upstream understands would pass by the owner's check."""
    owner, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
    made = await submitted(gw, owner)
    await finished(gw, owner, made)
    asked = len(await gw.seen())
    body = body.replace(b"ID", made.rpartition("/")[2].encode())
    for path in ("/v1/understanding", "/v1/understanding/validate", CHAT_PATH):
        got = await gw.call("POST", path, other, data=body, headers={"Content-Type": "application/json"})
        assert (got.status, got.code) == (400, "invalid_request"), path
        got = await gw.call("POST", path, other, data=body, headers={"Content-Encoding": "br"})
        assert (got.status, got.code) == (400, "invalid_request"), path
    assert len(await gw.seen()) == asked


async def test_a_foreign_upload_answers_like_an_unknown_one(gw: Running) -> None:
    """An upload's URL is worth nothing to another account, and is the owner's to use twice."""
    owner, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
    upload = await gw.call("POST", "/v2/upload", owner, data=b"x" * 160_000)
    assert upload.status == 200
    url = upload.json["upload_url"]
    foreign = await gw.call("POST", LIST, other, json={"audio_url": url})
    unknown = await gw.call("POST", LIST, other, json={"audio_url": f"{url.rpartition('/')[0]}/{uuid4()}"})
    assert (foreign.status, foreign.code) == (403, "not_found")
    assert foreign.json == {"error": "Cannot access uploaded file"}, "as the service says it"
    assert seen_by_customer(foreign) == seen_by_customer(unknown)
    for _ in range(2):
        assert (await gw.call("POST", LIST, owner, json={"audio_url": url})).status == 200
    await in_order(gw, "b", balance=parse_usd("10"))


@pytest.mark.parametrize(
    "spelling",
    [
        "HTTPS://CDN.sandbox.invalid/upload/ID", "http://cdn.sandbox.invalid/upload/ID",
        "https://cdn.sandbox.invalid:443/upload/ID", "https://x@cdn.sandbox.invalid/upload/ID",
        "https://cdn.sandbox.invalid//upload/ID", "https://cdn.sandbox.invalid/./upload/ID",
        "https://cdn.sandbox.invalid/uploa%64/ID", "https://cdn.sandbox.invalid./upload/ID",
        "https://cdn%2esandbox.invalid/upload/ID", " https://cdn.sandbox.invalid/upload/ID",
        "https://\tcdn.sandbox.invalid/upload/ID", "https://cdn.sandbox.invalid/upload/ID?a=b",
        "https:\\\\cdn.sandbox.invalid\\upload\\ID",
    ],
)  # fmt: skip
async def test_no_spelling_of_an_uploads_address_passes_by_its_owner(gw: Running, spelling: str) -> None:
    """Any address on the host of uploads is an upload's, and must be the caller's to the letter."""
    owner, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
    upload = await gw.call("POST", "/v2/upload", owner, data=b"x" * 160_000)
    url = spelling.replace("ID", upload.json["upload_url"].rpartition("/")[2])
    got = await gw.call("POST", LIST, other, json={"audio_url": url})
    assert (got.status, got.code) == (403, "not_found")


@pytest.mark.parametrize("name", ["Transcript_id", "TRANSCRIPT_ID", "tran\u017fcript_id"])
async def test_no_spelling_of_a_field_passes_by_the_owner(gw: Running, name: str) -> None:
    """Services that do not tell upper from lower case (Go's JSON) would read another field than the gateway does."""
    owner, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
    theirs, ours = await submitted(gw, owner), await submitted(gw, other)
    for key, path in ((owner, theirs), (other, ours)):
        await finished(gw, key, path)
    tasks = {"request": {"translation": {"target_languages": ["es"]}}}
    for path, body in (
        ("/v1/understanding", {"speech_understanding": tasks}),
        ("/v1/understanding/validate", {"speech_understanding": tasks}),
        (CHAT_PATH, CHAT),
    ):
        for own in ({}, {"transcript_id": ours.rpartition("/")[2]}):
            got = await gw.call("POST", path, other, json={**body, **own, name: theirs.rpartition("/")[2]})
            assert (got.status, got.code) in ((400, "invalid_request"), (400, "unpriced_field"))


async def test_no_spelling_in_a_frame_passes_by_the_owner(gw: Running) -> None:
    """The same of a voice agent's frames: neither their type nor what they name is written in another way."""
    key = await gw.open_account("a", credit="10")
    for frame in (
        {"Type": "session.resume", "session_id": "sess_1"},
        {"type": "input.text", "TYPE": "session.resume", "session_id": "sess_1"},
        {"type": "session.resume", "Session_ID": "sess_1"},
        {"type": "session.resume", "\u017fession_id": "sess_1"},
        {"type": "session.update", "session": {"Agent_Id": "agent_1"}},
        {"type": "session.update", "Session": {"agent_id": "agent_1"}},
    ):
        async with gw.http.ws_connect(gw.url + "/v1/ws", headers={"Authorization": key}) as socket:
            await socket.send_json(frame)
            said = [message.json() async for message in socket]
            assert (socket.close_code, [each["code"] for each in said]) in ((1008, []), (1008, ["invalid_request"]))
    assert not list(gw.sandbox.state.agent_sessions.values())


@pytest.mark.parametrize("name", ["before_id", "after_id"])
async def test_a_foreign_anchor_of_a_list_answers_like_an_unknown_one(gw: Running, name: str) -> None:
    """Whether an id exists in the project is nobody else's business, in a query as in a path."""
    owner, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
    theirs = (await submitted(gw, owner)).rpartition("/")[2]
    await submitted(gw, other)
    foreign = await gw.call("GET", f"{LIST}?{name}={theirs}", other)
    unknown = await gw.call("GET", f"{LIST}?{name}={uuid4()}", other)
    assert foreign.status == unknown.status


async def test_a_list_shows_only_ones_own(gw: Running) -> None:
    """Paging through a project full of other people's jobs: every own job once, newest first, and no foreign id."""
    mine, other = await gw.open_account("a", credit="100"), await gw.open_account("b", credit="100")
    own: list[str] = []
    foreign: list[str] = []
    for number in range(60):
        account = mine if number % 6 == 2 else other
        (own if account == mine else foreign).append((await submitted(gw, account, 1)).rpartition("/")[2])
    for limit in (1, 3, 10, 200):
        shown: list[str] = []
        path: str | None = f"{LIST}?limit={limit}"
        while path is not None:
            page = await gw.call("GET", path, mine)
            assert page.status == 200
            assert not [each for each in foreign if each in page.body.decode()]
            assert page.json["page_details"]["result_count"] == len(page.json["transcripts"]) <= limit
            shown += [item["id"] for item in page.json["transcripts"]]
            urls = [item["resource_url"] for item in page.json["transcripts"]]
            assert urls == [f"{gw.url}{LIST}/{item['id']}" for item in page.json["transcripts"]], (
                "ours, not the upstream's"
            )
            older = page.json["page_details"]["prev_url"]
            assert older is None or older.startswith(gw.url)
            path = older.removeprefix(gw.url) if older else None
        assert shown == own[::-1]
    nobody = await gw.open_account("c", credit="0")
    got = await gw.call("GET", LIST, nobody)
    assert (got.status, got.json["transcripts"], got.json["page_details"]["prev_url"]) == (200, [], None)


async def test_a_lists_filters_are_kept_in_its_links(gw: Running) -> None:
    """The link to the next page asks for the same kind of items."""
    key = await gw.open_account("a", credit="100")
    for _ in range(3):
        await finished(gw, key, await submitted(gw, key, 1))
    page = await gw.call("GET", f"{LIST}?limit=2&status=completed", key)
    query = parse_qs(urlsplit(page.json["page_details"]["prev_url"]).query)
    assert query["status"] == ["completed"]
    assert query["limit"] == ["2"]


async def test_a_deleted_transcript_is_gone(gw: Running) -> None:
    """Neither in lists nor by its id, nor anything below it, even where the upstream still has it."""
    key = await gw.open_account("a", credit="10")
    kept, gone = await submitted(gw, key, 1), await submitted(gw, key, 1)
    await asyncio.sleep(0.1)
    assert (await gw.call("DELETE", gone, key)).status == 200
    listed = await gw.call("GET", LIST, key)
    assert [item["id"] for item in listed.json["transcripts"]] == [kept.rpartition("/")[2]]
    for method, below in [*product(("GET",), BELOW), ("DELETE", "")]:
        got = await gw.call(method, gone + below, key)
        assert (got.status, got.code) == (404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/v2/transcript/ID%2Fsrt", "/v2/transcript/./ID", "/v2//transcript/ID", "/v2/transcript/ID/",
        "/V2/transcript/ID", "/v2/transcript/x/../ID", "/v2/transcript/%2e%2e/transcript/ID",
        "/v2/transcript/ID;a=b/srt", "/v2/transcript/ID%00", "/v2/%74ranscript/ID", "/v2/transcript/ID\\srt",
    ],
)  # fmt: skip
async def test_no_spelling_of_a_path_reaches_a_foreign_transcript(gw: Running, path: str) -> None:
    """What a service might read differently than the gateway does is not forwarded."""
    owner, other = await gw.open_account("a", credit="10"), await gw.open_account("b", credit="10")
    made = (await submitted(gw, owner)).rpartition("/")[2]
    asked = len(await gw.seen())
    reader, writer = await asyncio.open_connection("127.0.0.1", gw.gateway.customers_port)
    target = path.replace("ID", made)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {other}\r\nConnection: close\r\n\r\n".encode())
    reply = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert re.match(rb"HTTP/1.1 4\d\d ", reply)
    assert len(await gw.seen()) == asked
