"""Calls to upstreams over our own keep-alive connections, each with aiohttp's C parser.

Owns: which pool a request goes to, and of a service with endpoints which of them, one after the other.
Does not know: customers, money, connections (pool).

`aiohttp.ClientSession` would do the same at twice the cost of everything else on the path of a call (see
docs/adr/0006).
"""

from collections.abc import Coroutine
from typing import Any, Final

from multidict import CIMultiDict

from gateway.core.errors import UpstreamTimeout, UpstreamUnreachable
from gateway.core.upstreams import Upstream
from gateway.upstream.fleet import Fleet, Tries
from gateway.upstream.pool import Pool
from gateway.upstream.ports import Body, Reply

#: Safe to send to another one when what became of it is not known (RFC 9110 9.2.1).
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class PooledUpstreamClient:
    """An `UpstreamClient` with one pool for each place, made when it is first called."""

    def __init__(self, fleet: Fleet | None = None) -> None:
        self._pools: dict[str, Pool] = {}
        self._fleet = fleet or Fleet()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self._pools.values())}>"

    def __len__(self) -> int:
        """Open connections, idle ones included."""
        return sum(map(len, self._pools.values()))

    def send(
        self, upstream: Upstream, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body
    ) -> Coroutine[Any, Any, Reply]:
        """See `UpstreamClient`. (A coroutine that only awaits another costs half a microsecond.)"""
        pool = self._pools.get(upstream.name)
        if pool is None:
            if upstream.endpoints:
                return self._send_to_one(upstream, method, path_and_query, headers, body)
            pool = self._pools[upstream.name] = Pool(upstream)
        return pool.send(method, path_and_query, headers, body)

    async def _send_to_one(
        self, upstream: Upstream, method: str, path_and_query: str, headers: CIMultiDict[str], body: Body
    ) -> Reply:
        """Send to one endpoint, or another: at most to so many as `Tries` has."""
        whole = body is None or isinstance(body, bytes)
        tries = Tries(self._fleet, upstream, safe=whole and method in _SAFE)
        while True:
            endpoint = tries.next()
            headers[endpoint.credential_header] = endpoint.credential
            try:
                reply = await self.send(endpoint, method, path_and_query, headers, body)
            except (UpstreamUnreachable, UpstreamTimeout) as fault:
                if not tries.goes_on(endpoint, fault):
                    raise
                continue
            if not tries.passes_over(endpoint, reply.status, whole=whole):
                return reply
            async with reply:  # it has no more to say
                pass

    async def close(self) -> None:
        """See `UpstreamClient`."""
        for pool in self._pools.values():
            pool.close()
