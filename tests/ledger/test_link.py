"""The link to one server: one write per tick, order, repeats, deadlines, the breaker, greetings."""

import asyncio
import os
import signal
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.ledger.address import Address
from gateway.ledger.embedded import EmbeddedRedis
from gateway.ledger.link import CommandError, LinkDown, LinkSettings, Script
from gateway.ledger.links import open_link
from gateway.ledger.single import SingleLink
from tests.certificates import Certificates
from tests.fakes.link import CuttingRelay

ADD = Script("add", "return redis.call('INCRBY', KEYS[1], ARGV[1])")


@asynccontextmanager
async def opened(url: str, **bounds: float) -> AsyncIterator[SingleLink]:
    link = SingleLink(LinkSettings(url=url, **bounds))  # type: ignore[arg-type]
    await link.open()
    try:
        yield link
    finally:
        await link.close()


@pytest.fixture
async def relay(link: SingleLink, redis_url: str) -> AsyncIterator[CuttingRelay]:
    """A line to the shared, flushed server that can be cut."""
    async with CuttingRelay(redis_url) as relay:
        yield relay


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nothing there announces itself
            await asyncio.sleep(0.005)


async def until_state(link: SingleLink, state: str) -> None:
    await until(lambda: link.state == state)


async def test_replies_of_every_shape(link: SingleLink) -> None:
    """Text, numbers, nothing and lists come back as bytes, int, None and list."""
    assert await link.call("SET", "a", 5) == b"OK"
    assert await link.call(b"GET", "a") == b"5"
    assert await link.call("INCR", b"a") == 6
    assert await link.call("GET", "b") is None
    assert await link.call("MGET", "a", "b") == [b"6", None]


async def test_commands_of_one_tick_leave_together_in_order(relay: CuttingRelay) -> None:
    """A hundred commands of one tick leave in a few writes, and each gets its own reply."""
    async with opened(relay.url) as link:
        assert await asyncio.gather(*(link.call("ECHO", n) for n in range(100))) == [b"%d" % n for n in range(100)]
        assert sum(relay.writes) == 100
        assert len(relay.writes) <= 13


async def test_an_error_reply_is_raised_to_its_own_caller(link: SingleLink) -> None:
    """An error belongs to one command; its neighbours of the same write get their replies."""
    before, wrong, after = link.call("SET", "a", "x"), link.call("INCR", "a"), link.call("GET", "a")
    assert await before == b"OK"
    with pytest.raises(CommandError, match="not an integer") as caught:
        await wrong
    assert caught.value.code == "ERR"
    assert await after == b"x"


async def test_a_script_is_sent_by_source_when_the_server_lost_it(link: SingleLink) -> None:
    """NOSCRIPT is answered with the source, for every one of a burst, and the next call is by SHA-1 again."""
    assert await asyncio.gather(*(link.run(ADD, ["n"], [1]) for _ in range(5))) == [1, 2, 3, 4, 5]
    await link.call("SCRIPT", "FLUSH")
    assert await link.run(ADD, ["n"], [10]) == 15
    assert await link.call("SCRIPT", "EXISTS", ADD.sha1) == [1]
    assert await link.run(ADD, ["n"], [b"1"]) == 16


async def test_a_burst_sends_a_source_once(link: SingleLink) -> None:
    """However many calls find the script missing, the server gets its source once, and they keep their order."""
    await link.call("SCRIPT", "FLUSH")
    await link.call("CONFIG", "RESETSTAT")
    assert await asyncio.gather(*(link.run(ADD, ["n"], [1]) for _ in range(200))) == list(range(1, 201))
    counted = await link.call("INFO", "commandstats")
    assert isinstance(counted, bytes)
    assert b"cmdstat_eval:calls=1," in counted
    await link.call("SCRIPT", "FLUSH")  # and again, when it is lost again
    assert await asyncio.gather(*(link.run(ADD, ["n"], [1]) for _ in range(2))) == [201, 202]


async def test_lost_replies_are_repeated(relay: CuttingRelay) -> None:
    """A command whose reply was lost three times is sent four times, and answered."""
    async with opened(relay.url) as link:
        await link.call("PING")
        relay.drop_replies(3)
        assert await link.call("INCR", "n") == 4
        assert relay.connections == 4
        assert link.state == "up"


async def test_lost_requests_are_repeated_in_order(relay: CuttingRelay) -> None:
    """Commands cut off on their way are sent again in their order."""
    async with opened(relay.url) as link:
        await link.call("PING")
        relay.drop_requests(2)
        replies = await asyncio.gather(*(link.call("RPUSH", "list", n) for n in range(20)))
        assert replies == list(range(1, 21))
        assert await link.call("LRANGE", "list", 0, -1) == [b"%d" % n for n in range(20)]


async def test_repeats_end_at_the_deadline(relay: CuttingRelay) -> None:
    """A server that never lets a reply through is LinkDown at the deadline."""
    async with opened(relay.url, command_seconds_max=0.2) as link:
        relay.drop_replies(1_000_000)
        started = time.monotonic()
        with pytest.raises(LinkDown, match=r"within 0\.2 s"):
            await link.call("PING")
        assert 0.19 < time.monotonic() - started < 5


async def test_a_silent_server_times_out_in_bound_and_is_found_again(relay: CuttingRelay) -> None:
    """A pause fails what waits at its deadline, then calls fail at once; afterwards the link serves again."""
    bounds = {"command_seconds_max": 0.2, "connect_seconds_max": 0.1, "down_seconds": 0.1}
    async with opened(relay.url, **bounds) as link:
        relay.pause()
        started = time.monotonic()
        answers = await asyncio.gather(*(link.call("PING") for _ in range(50)), return_exceptions=True)
        assert time.monotonic() - started < 5  # together, not one after the other
        assert all(isinstance(answer, LinkDown) for answer in answers)
        await until_state(link, "down")
        relay.resume()
        await until_state(link, "up")
        assert await link.call("ECHO", "again") == b"again"


async def test_a_stopped_server_process_times_out(tmp_path: Path) -> None:
    """A server that the kernel still accepts connections for, but that answers nothing, is LinkDown in bound."""
    async with (
        EmbeddedRedis(tmp_path, appendonly=False) as server,
        opened(server.url, command_seconds_max=0.5, connect_seconds_max=0.5, down_seconds=0.05) as link,
    ):
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(LinkDown):
            await link.call("PING")
        os.kill(server.pid, signal.SIGCONT)
        await until_state(link, "up")
        assert await link.call("PING") == b"PONG"


async def test_the_breaker_answers_at_once(relay: CuttingRelay) -> None:
    """After a failed connect a thousand calls are refused in no time, and the repr says since when."""
    async with opened(relay.url, down_seconds=5.0) as link:
        await relay.stop()
        await until_state(link, "down")
        started = time.monotonic()
        answers = await asyncio.gather(*(link.call("PING") for _ in range(1000)), return_exceptions=True)
        assert time.monotonic() - started < 2
        assert all(isinstance(answer, LinkDown) for answer in answers)
        assert "down since " in repr(link)
        assert repr(link).endswith("pending 0>")


@pytest.mark.parametrize("how", ["pause", "stop"])
async def test_the_breaker_stays_open_while_it_tries_again(relay: CuttingRelay, how: str) -> None:
    """Attempts to connect that are swallowed, or refused, keep no call waiting; the first that succeeds closes it."""
    bounds = {"command_seconds_max": 0.2, "connect_seconds_max": 0.3, "down_seconds": 0.05}
    async with opened(relay.url, **bounds) as link:
        await link.call("PING")
        if how == "pause":
            relay.pause()
        else:
            await relay.stop()
        with pytest.raises(LinkDown):
            await link.call("PING")
        waited = 0.0
        for _ in range(40):
            started = time.monotonic()
            with pytest.raises(LinkDown):
                await link.call("PING")
            waited += time.monotonic() - started
            await asyncio.sleep(0.02)
        assert waited < 2  # each for its time would be eight seconds
        if how == "pause":
            relay.resume()
        else:
            await relay.start()
        await until_state(link, "up")
        assert await link.call("PING") == b"PONG"


async def test_a_slow_server_is_left_alone_for_a_while(relay: CuttingRelay) -> None:
    """One that would connect but answers too late opens the breaker like one that is away."""
    async with opened(relay.url, command_seconds_max=0.3, down_seconds=1.0) as link:
        with pytest.raises(LinkDown):
            await link.call("BLPOP", "nothing", 1)
        assert link.state == "down"
        connections = relay.connections
        await asyncio.sleep(0.2)
        assert (link.state, relay.connections) == ("down", connections)
        await until_state(link, "up")


async def test_a_sent_command_outlives_the_breaker(relay: CuttingRelay) -> None:
    """What may have been done already is repeated once the server is back, though connects failed meanwhile."""
    async with opened(relay.url, down_seconds=0.05) as link:
        await link.call("PING")
        relay.pause()
        lost = link.call("SET", "a", "kept")
        await asyncio.sleep(0)
        await relay.stop()
        await until_state(link, "down")
        assert link.pending == 1
        relay.resume()
        await relay.start()
        assert await lost == b"OK"


async def test_open_says_why_it_failed_and_goes_on_trying(relay: CuttingRelay) -> None:
    """`open` on a dead address raises; the link connects by itself when the server appears."""
    await relay.stop()
    link = SingleLink(LinkSettings(url=relay.url, down_seconds=0.05))
    with pytest.raises(LinkDown, match=r"\[Errno \d+\]"):
        await link.open()
    await relay.start()
    await until_state(link, "up")
    assert await link.call("PING") == b"PONG"
    await link.close()


async def test_a_cancelled_waiter_does_not_shift_replies(relay: CuttingRelay) -> None:
    """Waiters that left before their reply came take nobody else's."""
    async with opened(relay.url) as link:
        relay.pause()
        tasks = [asyncio.ensure_future(link.call("ECHO", n)) for n in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        relay.resume()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[1::2] == [b"1", b"3", b"5", b"7", b"9"]
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
        assert await link.call("ECHO", "next") == b"next"


async def test_too_many_in_flight_is_refused_at_once(relay: CuttingRelay) -> None:
    """One command above `pending_max` is LinkDown without waiting; the others are served."""
    async with opened(relay.url, pending_max=3) as link:
        relay.pause()
        held = [link.call("ECHO", n) for n in range(3)]
        with pytest.raises(LinkDown, match="overloaded: 3"):
            await link.call("PING")
        relay.resume()
        assert await asyncio.gather(*held) == [b"0", b"1", b"2"]


async def test_reconnects_after_a_restart_of_the_server(tmp_path: Path) -> None:
    """A server that went and came back is used again, with what it kept."""
    server = EmbeddedRedis(tmp_path, fsync="always")
    await server.start()
    async with opened(server.url, down_seconds=0.05) as link:
        await link.call("SET", "a", "kept")
        await server.stop()
        with pytest.raises(LinkDown):
            await link.call("GET", "a")
        await server.start()
        await until_state(link, "up")
        assert await link.call("GET", "a") == b"kept"
    await server.stop()


async def test_a_demoted_server_is_down_not_wrong(tmp_path: Path) -> None:
    """READONLY is the server's inability (LinkDown), and the address is looked up again after a pause."""
    async with (
        EmbeddedRedis(tmp_path, appendonly=False) as server,
        opened(server.url, down_seconds=0.05) as link,
    ):
        await link.call("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(LinkDown) as caught:
            await link.call("SET", "a", 1)
        assert caught.value.code == "READONLY"
        await until_state(link, "down")
        await until_state(link, "up")
        await link.call("REPLICAOF", "NO", "ONE")
        assert await link.call("SET", "a", 1) == b"OK"


async def test_not_a_redis_server_is_down() -> None:
    """A peer that speaks something else fails `open` with a reason."""

    async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(speak, "127.0.0.1", 0)
    link = SingleLink(LinkSettings(url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    with pytest.raises(LinkDown, match="not a Redis reply"):
        await link.open()
    await link.close()
    server.close()


async def test_password_user_and_database(tmp_path: Path) -> None:
    """The URL's user, password and database are used, the name is set, and secrets are never shown."""
    async with EmbeddedRedis(tmp_path, appendonly=False, extra_args=("--requirepass", "s3cr/t")) as server:
        path = server.socket_path
        async with opened(f"unix://:s3cr%2Ft@{path}?db=3") as link:
            assert await link.call("ACL", "SETUSER", "gw", "on", ">p@ss", "~*", "+@all", "-client") == b"OK"
            await link.call("SET", "a", "in three")
            assert b"name=gateway" in str(await link.call("CLIENT", "INFO")).encode()
        async with opened(f"unix://gw:p%40ss@{path}?db=3") as link:
            assert await link.call("GET", "a") == b"in three"
        for url, why in ((f"unix://gw:wrong@{path}", "AUTH refused: WRONGPASS"), (f"unix://{path}", "NOAUTH")):
            link = SingleLink(LinkSettings(url=url))
            with pytest.raises(LinkDown, match=why) as caught:
                await link.open()
            assert "wrong@" not in f"{link!r} {caught.value!r} {LinkSettings(url=url)!r} {link.address!r}"
            await link.close()


async def test_tls_with_our_own_authority(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """`rediss` trusts the named authority's server and no other."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with CuttingRelay(redis_server.url, tls=context) as relay:
        async with opened(f"{relay.url}?ssl_ca_certs={certificate}") as link:
            assert await asyncio.gather(*(link.call("ECHO", n) for n in range(3))) == [b"0", b"1", b"2"]
        stranger = SingleLink(LinkSettings(url=relay.url))
        with pytest.raises(LinkDown, match="certificate verify failed"):
            await stranger.open()
        await stranger.close()


async def test_a_server_that_asks_its_clients_who_they_are(
    redis_server: EmbeddedRedis, certificates: Certificates, tmp_path: Path
) -> None:
    """Ours is shown, as the file has it when a connection is made; without one, or half of one, nothing is opened."""
    certificates.known_client()  # makes the files
    ours = tmp_path / "client.pem"
    ours.write_text("".join((certificates.root.parent / f"client.{end}").read_text() for end in ("key", "pem")))
    context = certificates.server
    context.load_verify_locations(certificates.root)
    context.verify_mode = ssl.CERT_REQUIRED
    async with CuttingRelay(redis_server.url, tls=context) as relay:
        url = f"{relay.url}?ssl_ca_certs={certificates.root}"
        async with opened(f"{url}&ssl_certfile={ours}") as link:
            assert await link.call("ECHO", "a") == b"a"
        nobody = SingleLink(LinkSettings(url=url))
        with pytest.raises(LinkDown):
            await nobody.open()
            await nobody.call("ECHO", "a")
        await nobody.close()
        gone = SingleLink(LinkSettings(url=f"{url}&ssl_certfile={ours}"))
        ours.unlink()
        with pytest.raises(LinkDown, match="No such file"):
            await gone.open()
        await gone.close()


async def test_close_fails_what_waits_and_every_later_call(relay: CuttingRelay) -> None:
    """Nothing waits for a closed link, and it can be opened again."""
    link = SingleLink(LinkSettings(url=relay.url))
    with pytest.raises(LinkDown, match="not open"):
        await link.call("PING")
    await link.open()
    relay.pause()
    waiting = link.call("PING")
    await link.close()
    for future in (waiting, link.call("PING")):
        with pytest.raises(LinkDown, match="closed"):
            await future
    relay.resume()
    await link.open()
    assert await link.call("PING") == b"PONG"
    await link.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://host", "scheme 'http'"),
        ("redis://:pa/ss@host", "port is not a number"),
        ("redis://host/three", "database is not a number"),
        ("redis://host?timeout=3", "does not take timeout"),
        ("redis+cluster://:pa/ss@host", "port is not a number|database 0 only"),
        ("unix://", "needs the path"),
        ("rediss://h?ssl_keyfile=k.pem", "ssl_keyfile goes with ssl_certfile"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused(url: str, why: str) -> None:
    """A wrong URL is a ValueError that says what is wrong and not what the password is."""
    with pytest.raises(ValueError, match=why) as caught:
        open_link(LinkSettings(url=url))
    assert "pa" not in str(caught.value).replace("path", "").replace("password", "")


def test_urls_and_their_defaults() -> None:
    """Port, database and TLS come from the URL, or are what Redis uses."""
    assert Address.parse("redis://h").where == "redis://h:6379/0"
    assert Address.parse("redis://u:p@[::1]:7/2").where == "redis://[::1]:7/2"
    assert Address.parse("rediss://h:1").where == "rediss://h:1/0"
    assert Address.parse("unix:///a%20b/s.sock?db=4").greeting() == [("SELECT", "4"), ("CLIENT", "SETNAME", "gateway")]


async def test_what_is_still_being_written_does_not_break_close(relay: CuttingRelay) -> None:
    """A link that is closed while the server is slow to read lets it read, and is closed then."""
    link = SingleLink(LinkSettings(url=relay.url))
    await link.open()
    await link.call("PING")
    relay.pause()
    waiting = link.call("SET", "large", b"x" * 16_000_000)
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(link.close())
    await asyncio.sleep(0.05)
    relay.resume()
    await closing
    with pytest.raises(LinkDown, match="closed"):
        await waiting
