"""What is called on a customer's word: real sockets, and names that resolve to what they should not."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.core.errors import OutwardFailed, OutwardRefused
from gateway.upstream.outward import Outward
from tests.certificates import made_in
from tests.fakes.upstream import Line, ScriptedUpstream, answering, message

OK = message("HTTP/1.1 200 OK")
HEADERS = {"Content-Type": "application/json", "X-Webhook-Secret": "s3cret"}


class Names:
    """A resolver: each time it is asked for a name, the next of its answers; the last one for ever."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers = {name: list(several) for name, several in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses."""
        self.asked.append(host)
        several = self.answers[host.partition(".")[0]]
        return several.pop(0) if len(several) > 1 else several[0]


REFUSED = """
    http://example.com/ ftp://example.com/ file:///etc/passwd gopher://example.com/ //example.com/ example.com https:///x
    https://user@example.com/ https://user:password@example.com/ https://public.example@127.0.0.1/ https://example.com:22/
    https://example.com:6553500/ https://example.com:0/ https://127.0.0.1/ https://127.0.0.1:8443/ https://[::1]/
    https://2130706433/ https://127.1/ https://0177.0.0.1/ https://[::ffff:127.0.0.1]/ https://[::ffff:7f00:1]/
    https://[::127.0.0.1]/ https://[64:ff9b::7f00:1]/ https://[2002:7f00:1::]/ https://[fe80::1%25eth0]/
    https://169.254.169.254/latest/meta-data https://0/ https://0.0.0.0/ https://10.0.0.1/ https://[fd00::1]/
    https://224.0.0.1/ https://255.255.255.255/ https://１２７.０.０.１/ https://①②⑦.⓪.⓪.①/ https://127。0。0。1/
    https://exa\\mple.com/ https://example.com/\x00 https://example.com/\r\nX:1 https://
""".strip("\n").split(" ")  # fmt: skip


@pytest.mark.parametrize("url", [url.strip(" \n") for url in REFUSED if url.strip()])
async def test_what_a_url_may_not_say(url: str) -> None:
    """No scheme but https, no user, no port of other services, and no address inside, however it is spelled."""
    names = Names(example=[["8.8.8.8"]])
    async with Outward(resolve=names) as outward:
        with pytest.raises(OutwardRefused):
            await outward.post(url, b"{}", {}, seconds_max=5)
    assert names.asked == []


def test_what_a_url_may_say() -> None:
    """Public hosts over https, with a query, at the usual ports; plain http where the config says so."""
    outward = Outward()
    for url in (
        "https://example.com/hook?customer_id=1&x=%2F",
        "https://bücher.example/",
        "https://example.com:8443/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]/",
    ):
        assert outward.objection(url) == "", url
    assert outward.objection("http://example.com/") == "it must start with https://"
    assert Outward(plain_http=True).objection("http://example.com/") == ""
    assert Outward(plain_http=True).objection("http://127.0.0.1/") == "its address is not a public one"
    assert Outward(allow=["127.0.0.0/8"]).objection("http://127.0.0.1:99/") == ""
    assert outward.objection(f"https://example.com/{'a' * 2048}") == "it is not a URL"


@pytest.mark.parametrize("name", ["localhost", "localhost.", "0x7f.1", "0x7f000001", "017700000001.", "127.0.0.0x1"])
async def test_names_that_resolve_to_this_machine_are_refused(name: str) -> None:
    """What the system's own resolver takes for loopback is not called, numbers in disguise included."""
    async with answering(OK) as server, Outward(plain_http=True) as outward:
        port = server.url.rpartition(":")[2]
        with pytest.raises((OutwardRefused, OutwardFailed)):  # some systems do not take all of these for addresses
            await outward.post(f"http://{name}:{port}/", b"{}", {}, seconds_max=5)
    assert server.lines == 0


async def test_a_name_with_one_address_inside_is_refused() -> None:
    """A name that leads inside, if only among others, is refused: which of them is called would be chance."""
    names = Names(mixed=[["8.8.8.8", "127.0.0.1"]], metadata=[["169.254.169.254"]], mapped=[["::ffff:10.0.0.1"]])
    async with Outward(plain_http=True, resolve=names) as outward:
        for host in ("mixed", "metadata", "mapped"):
            with pytest.raises(OutwardRefused, match="its host's address is not a public one"):
                await outward.post(f"http://{host}.example/", b"{}", {}, seconds_max=5)


async def test_the_address_that_was_checked_is_the_one_that_is_called() -> None:
    """A name is resolved once for each request: one that turns into this machine afterwards gains nothing."""
    called: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.append(writer.get_extra_info("sockname")[0])
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        writer.close()

    allowed = await asyncio.start_server(serve, "127.0.0.2", 0)
    port = allowed.sockets[0].getsockname()[1]
    inside = await asyncio.start_server(serve, "127.0.0.1", port)
    names = Names(rebinding=[["127.0.0.2"], ["127.0.0.1"]])
    async with allowed, inside, Outward(allow=["127.0.0.2"], plain_http=True, resolve=names) as outward:
        url = f"http://rebinding.example:{port}/"
        assert (await outward.post(url, b"", {})).status == 200
        assert (names.asked, called) == (["rebinding.example"], ["127.0.0.2"])
        with pytest.raises(OutwardRefused):
            await outward.post(url, b"", {})
        assert called == ["127.0.0.2"]


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
async def test_addresses_of_ipv6_are_called_as_well() -> None:
    """An address in brackets, with a query as it was written."""
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
        writer.write(OK)
        writer.close()

    server = await asyncio.start_server(serve, "::1", 0)
    async with server, Outward(allow=["::1"]) as outward:
        port = server.sockets[0].getsockname()[1]
        assert (await outward.post(f"http://[::1]:{port}/a?b=%2F", b"", {})).status == 200
    assert lines == [b"POST /a?b=%2F HTTP/1.1"]


async def test_what_is_sent_is_what_was_given() -> None:
    """The body and the fields as they are, the query kept, and none of the fields that a library would add."""
    async with answering(OK) as server, Outward(allow=["localhost"]) as outward:
        body = b'{"transcript_id": "t",  "status":"completed"}'
        reply = await outward.post(f"{server.url}/hook?customer_id=1&next=%2Fa", body, HEADERS)
        assert reply.status == 200
    (received,) = server.requests
    assert received.first == b"POST /hook?customer_id=1&next=%2Fa HTTP/1.1"
    assert received.body == body
    fields = {name: value for name, value in received.fields if name != b"user-agent"}
    assert fields == {
        b"host": server.url.removeprefix("http://").encode(),
        b"content-type": b"application/json",
        b"x-webhook-secret": b"s3cret",
        b"content-length": str(len(body)).encode(),
        b"connection": b"close",
    }


@pytest.mark.parametrize("status", [200, 204, 301, 302, 307, 308, 404, 500])
async def test_redirects_are_not_followed_and_the_status_is_told(status: int) -> None:
    """Whatever the status, it is the answer; a redirect goes nowhere."""
    async with answering(OK) as inside:
        redirect = message(f"HTTP/1.1 {status} X", f"Location: {inside.url}/", "Set-Cookie: a=b")
        async with answering(redirect) as server, Outward(allow=["localhost"]) as outward:
            for _ in range(2):
                assert (await outward.post(f"{server.url}/", b"{}", HEADERS)).status == status
        assert inside.lines == 0
        assert all(received.all("Cookie") == [] for received in server.requests)


async def _endless(line: Line, first: bytes, piece: bytes) -> None:
    await line.request()
    await line.send(first)
    while True:
        await line.send(piece)
        await asyncio.sleep(0)


async def test_an_endless_body_is_not_read() -> None:
    """The status is known with the head; the body may go on for as long as it likes, without us."""
    server = ScriptedUpstream(lambda line: _endless(line, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536))
    async with server, Outward(allow=["localhost"]) as outward:
        started = time.monotonic()
        assert (await outward.post(f"{server.url}/", b"{}", {})).status == 200
        assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "piece", [b"X-Endless: yes\r\n", b"x" * 65536, b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["fields", "line", "interim"]
)
async def test_an_endless_head_ends(piece: bytes) -> None:
    """A head without end is a failure, in bounded time and memory."""
    first = b"" if piece.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"
    server = ScriptedUpstream(lambda line: _endless(line, first, piece))
    async with server, Outward(allow=["localhost"]) as outward:
        with pytest.raises(OutwardFailed):
            await outward.post(f"{server.url}/", b"{}", {}, seconds_max=1)


async def test_slow_and_broken_servers_fail_in_time() -> None:
    """No answer, a head that trickles, no HTTP at all, a closed line, nobody there: a failure each, within the time."""

    async def silent(line: Line) -> None:
        await line.ended()

    async def trickling(line: Line) -> None:
        await line.request()
        for byte in b"HTTP/1.1 200 OK\r\n" * 100:
            await line.send(bytes([byte]))
            await asyncio.sleep(0.05)

    async def babbling(line: Line) -> None:
        await line.send(b"220 mail.example ESMTP\r\n")
        await line.ended()

    async def closing(line: Line) -> None:
        line.cut()

    async with Outward(allow=["localhost", "127.0.0.1"]) as outward:
        for script in (silent, trickling, babbling, closing):
            async with ScriptedUpstream(script) as server:
                started = time.monotonic()
                with pytest.raises(OutwardFailed):
                    await outward.post(f"{server.url}/", b"{}", {}, seconds_max=0.5)
                assert time.monotonic() - started < 3
        async with ScriptedUpstream(silent) as closed:
            url = f"{closed.url}/"
        with pytest.raises(OutwardFailed, match="not reached"):
            await outward.post(url, b"{}", {}, seconds_max=2)


async def test_a_name_that_takes_for_ever_fails_in_time() -> None:
    """Resolving counts as waiting; a name without an address is a failure that may be tried again."""

    async def never(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(3600)
        return []

    async def nobody(host: str, port: int) -> Sequence[str]:
        raise OSError("no such host")

    async with Outward(resolve=never) as outward:
        with pytest.raises(OutwardFailed, match="in time"):
            await outward.post("https://slow.example/", b"{}", {}, seconds_max=0.2)
    async with Outward(resolve=nobody) as outward:
        with pytest.raises(OutwardFailed, match="no address"):
            await outward.post("https://nobody.example/", b"{}", {}, seconds_max=2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "inside"),
        ("Content-Length", "0"),
        ("transfer-encoding", "chunked"),
        ("Connection", "close"),
        ("", "x"),
        ("A B", "x"),
        ("A:", "x"),
        ("Ä", "x"),
        ("A", "x\r\nHost: inside"),
        ("A", "x\0"),
    ],
)
async def test_fields_that_would_change_the_request_are_refused(name: str, value: str) -> None:
    """A customer's field can neither end the head, nor say how long the body is or whom it is for."""
    async with answering(OK) as server, Outward(allow=["localhost"]) as outward:
        with pytest.raises(OutwardRefused, match="header"):
            await outward.post(f"{server.url}/", b"{}", {name: value})
    assert server.lines == 0


async def test_certificates_are_checked(tmp_path: Path) -> None:
    """Over TLS a server is who it says: by its name, and by an authority that is trusted."""
    made = made_in(tmp_path / "certificates")
    server = answering(OK)
    tls = ScriptedUpstream(server.script, tls=made.server)
    async with tls, Outward(allow=["localhost"]) as outward:
        with pytest.raises(OutwardFailed, match="certificate"):
            await outward.post(f"{tls.url}/", b"{}", {})
        async with Outward(allow=["localhost"], tls=made.client) as trusting:
            assert (await trusting.post(f"{tls.url}/", b"{}", {})).status == 200
        names = Names(other=[["127.0.0.1"]])
        async with Outward(allow=["127.0.0.0/8"], tls=made.client, resolve=names) as elsewhere:
            with pytest.raises(OutwardFailed, match="certificate"):
                await elsewhere.post(tls.url.replace("localhost", "other.example"), b"{}", {})
