"""The link to a Redis (or Valkey) cluster: one `SingleLink` per server, each command to the owner of its key.

Owns: the map of the slots' owners and when to ask for it again, redirections.
Does not know: slots of keys (slots), how a command is sent to a server (cluster_requests), transports, replies, repeats
on one server (single), or what the commands mean.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from gateway.ledger.cluster_requests import Call, Request, Run, ask, whole
from gateway.ledger.connection import NOTHING, Gate, Packed, Part
from gateway.ledger.link import CommandError, LinkDown, LinkError, LinkSettings, RedisLink, Reply, Script, State
from gateway.ledger.single import SingleLink
from gateway.ledger.slots import SLOTS, command_slot, hash_slot, never_of

REDIRECTIONS_MAX: Final = 8
_REDIRECTIONS_AT_ONCE: Final = 2
_SCHEMES: Final = {"redis+cluster": "redis", "rediss+cluster": "rediss"}
_REFRESH_PAUSE_SECONDS: Final = 0.1
_TRY_AGAIN_SECONDS: Final = 0.02

_Place: TypeAlias = tuple[str, int]


def is_cluster(url: str) -> bool:
    """Does the URL name a cluster (`redis+cluster://` or `rediss+cluster://`)?"""
    return urlsplit(url).scheme in _SCHEMES


class ClusterLink:
    """A `RedisLink` to a cluster: `redis+cluster://[user:pass@]host[:port][,host[:port]...]` (TLS: `rediss+cluster`).

    The hosts of the URL are where the map of the cluster is first asked for; one that answers is enough.
    A command's first key decides where it goes: the word after the command's name (`run`: the first of `keys`).
    Keys of one command must share a slot, so a hash tag. A command without a key goes to any one server.
    Raises as `SingleLink` does; LinkDown too when a slot has no owner. A server that `gate` refuses is as good as away.
    """

    def __init__(self, settings: LinkSettings, gate: Gate | None = None) -> None:
        self._settings = settings
        self._gate = gate
        self._confirming: asyncio.Task[LinkError | None] | None = None
        self._confirmed_at = float("-inf")
        self._seeds = _seeds(settings.url)
        self._nodes: dict[_Place, SingleLink] = {}
        self._owners: list[SingleLink | None] = [None] * SLOTS
        self._scripts: dict[str, Script] = {}
        self._refreshing: asyncio.Task[str] | None = None
        self._refreshed_at = float("-inf")
        self._why = "not open"
        self._open = False
        for place in self._seeds:
            self._nodes[place] = self._link(place)  # a URL that cannot be read is refused now

    def __repr__(self) -> str:
        trouble = f" ({self._why})" if self._why else ""
        unowned = self._owners.count(None)
        return f"<ClusterLink {self.state}{trouble}, slots without owner {unowned}, {list(self._nodes.values())}>"

    @property
    def state(self) -> State:
        if not self._open:
            return "closed"
        states = {node.state for node in self._nodes.values()}
        if self._why or "down" in states or not states:
            return "down"
        return "up" if states == {"up"} else "connecting"

    @property
    def nodes(self) -> Sequence[RedisLink]:
        return tuple(dict.fromkeys(node for node in self._owners if node is not None))

    @property
    def is_cluster(self) -> bool:
        return True

    def where_is(self, key: str) -> str:
        node = self._owners[hash_slot(key)]
        return node.where if node is not None else ""

    async def open(self) -> None:
        self._open = True
        why = await self._refresh(force=True)
        if why:
            raise LinkDown(why)

    async def close(self) -> None:
        self._open, self._why = False, "closed"
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        self._owners = [None] * SLOTS
        await asyncio.gather(*(node.close() for node in self._nodes.values()))

    async def confirm(self, *, within_seconds: float = 0.0) -> None:
        """See RedisLink. Every server that is there is asked, once for all who want to know meanwhile."""
        if self._gate is None:
            return
        loop, asked, serving = asyncio.get_running_loop(), self._confirming, self._serving()
        if asked is None or loop.time() >= self._confirmed_at + within_seconds:
            if asked is not None:  # its answers may be of before something was missed: the next one counts
                await asyncio.wait([asked])
            if asked is self._confirming:  # else another who waited has begun the next
                self._confirmed_at = loop.time()
                self._confirming = asyncio.create_task(self._confirm())
            asked = self._confirming
        assert asked is not None
        await asyncio.wait([asked])
        if (refused := asked.result()) is not None:
            raise refused
        for node in serving:  # one that was refused meanwhile was not asked, and may be the one that lacked something
            if node.state != "up":
                raise LinkDown(f"{node} is away since something was missed")

    def _serving(self) -> Sequence[SingleLink]:
        return [node for node in self._nodes.values() if node.state == "up"]

    async def _confirm(self) -> LinkError | None:
        """Each server is asked only for what is in its slots."""

        def confirm(node: SingleLink) -> Awaitable[None]:
            return node.confirm(only=lambda question: self._owner(command_slot(question)) is node)

        answers = await asyncio.gather(*map(confirm, self._serving()), return_exceptions=True)
        return next((answer for answer in answers if isinstance(answer, LinkError)), None)

    async def call(self, *parts: Part) -> Reply:
        return await self._perform(Call(command_slot(parts), parts))

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Part],
        *,
        first_keys: Packed = NOTHING,
        last_args: Packed = NOTHING,
    ) -> Reply:
        key = first_keys.first or (keys[0] if keys else None)
        if key is None:
            return await self._perform(Run(None, script, keys, args, first_keys, last_args))
        entire = self._scripts.get(script.sha1)
        if entire is None:
            entire = self._scripts[script.sha1] = whole(script)
        named = (*keys, never_of(key))
        return await self._perform(Run(hash_slot(key), entire, named, args, first_keys, last_args))

    # Sending

    async def _perform(self, request: Request) -> Reply:
        deadline = asyncio.get_running_loop().time() + self._settings.command_seconds_max
        node = self._owner(request.slot)
        if node is None:
            with contextlib.suppress(TimeoutError):  # then the slot still has no owner, which is said below
                async with asyncio.timeout_at(deadline):
                    await self._refresh()
            node = self._owner(request.slot)
        if node is None:
            raise LinkDown(f"slot {request.slot} has no owner: {self._why or 'the cluster does not cover it'}")
        try:
            return await request.send(node)
        except LinkError as error:
            return await self._elsewhere(request, node, error, deadline)

    async def _elsewhere(self, request: Request, node: SingleLink, error: LinkError, deadline: float) -> Reply:
        """Follow the servers' directions until one does the command; raise the error that gives none."""
        try:
            async with asyncio.timeout_at(deadline):
                redirections = 0
                while redirections < REDIRECTIONS_MAX:
                    # A slot half moved (TRYAGAIN) leads back and forth until it has moved, or the deadline.
                    redirections = 0 if error.code == "TRYAGAIN" else redirections + 1
                    if redirections > _REDIRECTIONS_AT_ONCE:  # the servers do not agree yet
                        await asyncio.sleep(_TRY_AGAIN_SECONDS)
                    node, asking = await self._next(request, node, error)
                    try:
                        return await (ask(request, node) if asking else request.send(node))
                    except LinkError as again:
                        error = again
        except TimeoutError:
            raise LinkDown(f"not done within {self._settings.command_seconds_max} s: {error}", error.code) from error
        raise LinkDown(f"more than {REDIRECTIONS_MAX} redirections, the last: {error}", error.code) from error

    async def _next(self, request: Request, node: SingleLink, error: LinkError) -> tuple[SingleLink, bool]:
        """Where to try after `error`, and whether with ASKING. Raises it when there is nowhere to go."""
        match error.code:
            case "MOVED":
                slot, target = self._direction(node, str(error))
                self._owners[slot] = target
                self._refresh_soon()
                return target, False
            case "ASK":
                return self._direction(node, str(error))[1], True
            case "TRYAGAIN":
                await asyncio.sleep(_TRY_AGAIN_SECONDS)
                return self._owner(request.slot) or node, False
            case "CLUSTERDOWN":
                self._refresh_soon()
                raise error
        if isinstance(error, CommandError) or node.state == "up":
            raise error
        await self._refresh()
        owner = self._owner(request.slot)
        if owner is None or owner is node:
            raise error
        return owner, False

    def _direction(self, node: SingleLink, text: str) -> tuple[int, SingleLink]:
        """Read `MOVED slot host:port` (or ASK): an empty host is that of the server which said so."""
        _, slot, target = text.split(" ")[:3]
        host, _, port = target.rpartition(":")
        return int(slot), self._node((host or node.address.host, int(port)))

    def _owner(self, slot: int | None) -> SingleLink | None:
        if slot is not None:
            return self._owners[slot]
        nodes = self._nodes.values()
        return next((node for node in nodes if node.state == "up"), next(iter(nodes), None))

    # The map

    def _refresh_soon(self) -> asyncio.Task[str] | None:
        """Ask for the map, unless that was just done. One asks at a time."""
        if self._refreshing is None or self._refreshing.done():
            if asyncio.get_running_loop().time() - self._refreshed_at < _REFRESH_PAUSE_SECONDS or not self._open:
                return None
            self._refreshing = asyncio.create_task(self._reload())
        return self._refreshing

    async def _refresh(self, *, force: bool = False) -> str:
        """The map, asked for again. Answers why it could not be had, or nothing."""
        if force:
            self._refreshed_at = float("-inf")
        task = self._refresh_soon()
        if task is None:
            return self._why
        await asyncio.wait([task])  # a waiter that is cancelled leaves the others their answer
        return self._why if task.cancelled() else task.result()

    async def _reload(self) -> str:
        nodes = sorted(self._nodes.values(), key=lambda node: node.state != "up")
        asked = nodes + [self._node(place) for place in self._seeds if place not in self._nodes]
        reasons = []
        for node in asked:
            node.start()
            try:
                reply = await node.call("CLUSTER", "SLOTS")
            except LinkError as error:
                reasons.append(str(error))
                continue
            if isinstance(reply, list) and reply:
                self._adopt(node, reply)
                self._why = ""
                break
            reasons.append(f"{node.address.where}: no slot is assigned")
        else:
            self._why = "no map of the cluster: " + "; ".join(reasons)
        self._refreshed_at = asyncio.get_running_loop().time()
        await self._retire()
        return self._why

    def _adopt(self, node: SingleLink, ranges: Sequence[Reply]) -> None:
        """Take over the answer of CLUSTER SLOTS: `[[first, last, [host, port, ...], replicas...], ...]`."""
        owners: list[SingleLink | None] = [None] * SLOTS
        for entry in ranges:
            assert isinstance(entry, list)
            first, last, primary = entry[:3]
            assert isinstance(first, int)
            assert isinstance(last, int)
            assert isinstance(primary, list)
            host, port = primary[:2]
            assert isinstance(port, int)
            name = host.decode() if isinstance(host, bytes) and host != b"?" else ""
            owners[first : last + 1] = [self._node((name or node.address.host, port))] * (last + 1 - first)
        self._owners = owners

    async def _retire(self) -> None:
        """Disconnect from servers that own nothing and have nothing in flight."""
        if self._why:
            return
        owners = set(self._owners)
        idle = {place: node for place, node in self._nodes.items() if node not in owners and not node.pending}
        for place in idle:
            del self._nodes[place]
        await asyncio.gather(*(node.close() for node in idle.values()))

    def _node(self, place: _Place) -> SingleLink:
        node = self._nodes.get(place)
        if node is None:
            node = self._nodes[place] = self._link(place)
        if self._open:
            node.start()
        return node

    def _link(self, place: _Place) -> SingleLink:
        parts = urlsplit(self._settings.url)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        host = f"[{place[0]}]" if ":" in place[0] else place[0]
        query = f"?{parts.query}" if parts.query else ""
        url = f"{_SCHEMES[parts.scheme]}://{user}{host}:{place[1]}{query}"
        return SingleLink(replace(self._settings, url=url), self._gate)


def _seeds(url: str) -> list[_Place]:
    """The servers that the URL names. Raises ValueError, never naming the password."""
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"redis url: scheme {parts.scheme!r} is not one of {', '.join(_SCHEMES)}")
    if parts.path.strip("/") not in {"", "0"}:
        raise ValueError("redis url: a cluster has database 0 only")
    places = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{text}")
        try:
            places.append((one.hostname or "localhost", one.port or 6379))
        except ValueError:
            raise ValueError("redis url: a port is not a number (escape / ? # @ : , in a password)") from None
    return places
