"""What an upstream is told of a call: the client's headers, and ours.

Owns: the fields that the gateway sets on what it forwards, what is noted of a body that passes.
Does not know: connections.
"""

from typing import Self

from multidict import CIMultiDict

from gateway.core.audio.probe import Probe
from gateway.pipeline.call import BodyRefused, Call, Client
from gateway.pipeline.content import Content
from gateway.pipeline.idempotency import HEADER, scoped
from gateway.upstream.headers import request_headers


def forwarded_headers(call: Call, *, trust_forwarded_for: bool, decodable_only: bool) -> CIMultiDict[str]:
    """The headers of the forwarded request. `decodable_only`: its reply has to be read, see `request_headers`."""
    client = call.client
    upstream = call.upstream
    ours = {
        upstream.credential_header: upstream.credential,
        "X-Call-Id": call.id,
        "X-Forwarded-For": _forwarded_for(client) if trust_forwarded_for else client.address,
        "X-Forwarded-Proto": client.scheme,
        "X-Forwarded-Host": client.host,
    }
    if call.identity is not None:
        ours["X-Account-Id"] = call.identity.account
        if (word := client.headers.get(HEADER)) is not None:
            ours[HEADER] = scoped(call.identity.account, word)
    return request_headers(
        client.headers, ours=ours, credential_header=upstream.credential_header, decodable_only=decodable_only
    )


def _forwarded_for(client: Client) -> str:
    """Whom the call comes from by what a balancer before us says: of anybody else that does not count."""
    said = [value.strip() for value in client.headers.getall("X-Forwarded-For", ())]
    return ", ".join([*filter(None, said), client.address])


class Passing:
    """A client's body on its way to the upstream, piece by piece as it comes."""

    __slots__ = ("_body", "_call")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._body = call.client.stream(call.route.body_bytes_max)
        creates, coding = call.route.creates, call.client.headers.get("Content-Encoding", "identity")
        if creates is not None and creates.audio and coding == "identity":
            call.probe = Probe()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        call = self._call
        try:
            chunk = await anext(self._body)
        except BodyRefused as error:
            call.body_refused = error
            raise
        call.request_bytes += len(chunk)
        if call.probe is not None:
            call.probe.feed(chunk)
        if call.content is not None:
            call.content.feed(chunk)
        return chunk


async def same_body(call: Call, content: Content) -> bool:
    """Read the body of a repeat, which goes nowhere: whether it is the first call's. BodyRefused."""
    if call.client.has_body:
        async for _ in Passing(call):
            pass
    return content.digest == content.expected
