"""A client's webhook for a job: taken out of the request, with a callback to us in its place, and shown as it was.

Owns: what of a request and of its replies speaks of the webhook, and what a client is told.
Does not know: how a token is signed, how a webhook is sent, or what a callback does to the books (`called_back`).
"""

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import orjson
from multidict import CIMultiDict

from gateway.core.errors import Code, Refused
from gateway.core.record import record as immutable
from gateway.core.splice import with_field, without_field
from gateway.ledger import rules
from gateway.pipeline.call import Call
from gateway.pipeline.meter import OF_THE_BYTES, decoded
from gateway.ports import Clock, Resource
from gateway.settings.jobs import Callback, Job

#: The channel of the outbox that calls clients' webhooks.
WEBHOOK: Final = rules.WEBHOOK
#: A service may call back late: so long after its job cannot be open any more.
_LATE_SECONDS: Final = 86_400
#: What the id of a notice says in so many words; a service's own ids and states may be any text.
_SAYABLE: Final = re.compile(r"[A-Za-z0-9._:@~-]{1,160}")
JSON: Final = "application/json"


@immutable
class CallbackToken:
    """What a callback's URL says, signed: which call of which account it is about. `expires` in epoch seconds."""

    account: str
    kind: str
    call_id: str
    expires: int


@immutable
class Notice:
    """What a client is told of its job, under an id that is the same however often, and by whom, it is learned."""

    id: str
    payload: Mapping[str, str]


def known_seconds(job: Job) -> int:
    """How long a callback for a job is taken."""
    return 2 * job.seconds_max + _LATE_SECONDS


def wish(callback: Callback, request: Any) -> Mapping[str, str] | Refused | None:
    """The webhook that a request asks for; None if for none."""
    if type(request) is not dict or not (url := request.get(callback.url)):
        return None
    header = _header(callback, request)
    if type(url) is not str or header is None:
        return _wrong(callback.url, "it is no text")
    return {"url": url, **header}


def _header(callback: Callback, request: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The header that goes with it, which may be none; None if it is not made of texts."""
    name = request.get(callback.header_name) if callback.header_name is not None else None
    value = request.get(callback.header_value) if callback.header_value is not None else None
    if not name:
        return {}
    value = "" if value is None else value
    return {"name": name, "value": value} if type(name) is str and type(value) is str else None


def _wrong(field: str, reason: str) -> Refused:
    return Refused(code=Code.INVALID_REQUEST, details={"reason": f"{field}: {reason}"})


def swapped(callback: Callback, text: bytes, request: Any, ours: str) -> bytes:
    """The request's text with our URL for the client's, and without the client's header."""
    changed = with_field(text, request, (callback.url,), ours)
    assert changed is not None, "a job's request is an object"
    for name in (callback.header_name, callback.header_value):
        if name is not None:
            changed = without_field(changed, request, name)
    return changed


def echo(callback: Callback, given: Mapping[str, str]) -> dict[str, Any]:
    """What replies say of the webhook, by field."""
    said = {
        callback.url: given.get("url"),
        callback.header_name: given.get("name"),
        callback.has_header: "name" in given,
        callback.answered: None,
    }
    return {name: value for name, value in said.items() if name is not None}


def notice(
    callback: Callback, record: Resource, status: str, body: bytes | None = None, kind: str = JSON
) -> Notice | None:
    """What the client is told of a job: the service's own words, or ours in its way. None where it wants nothing."""
    given = record.facts.get("callback")
    if not given or "url" not in given:
        return None
    if body is None:
        body = orjson.dumps({callback.id: record.ref.id, callback.status: status})
    about = f"{record.ref.id}:{status}"
    if _SAYABLE.fullmatch(about) is None:
        about = sha256(about.encode(errors="surrogatepass")).hexdigest()
    return Notice(
        id=f"{record.ref.kind}:{about}",
        payload={**given, "body": body.decode(), "type": kind},
    )


class Callbacks:
    """Puts callbacks in. `objection` says why a URL with its headers cannot be called; with no `public_url` there are
    no callbacks.
    """

    def __init__(
        self,
        *,
        public_url: str,
        objection: Callable[[str, Mapping[str, str]], str],
        write_token: Callable[[CallbackToken], str],
        clock: Clock,
    ) -> None:
        self._public_url = public_url
        self._objection = objection
        self._write_token = write_token
        self._clock = clock

    def wrong(self, call: Call) -> Refused | None:
        """What is wrong with the webhook that a call asks for."""
        callback = self._callback(call)
        if callback is None:
            return None
        wished = wish(callback, call.sources.get("request"))
        if wished is None or isinstance(wished, Refused):
            return wished
        objection = self._objection(wished["url"], header_of(wished))
        return _wrong(callback.url, objection) if objection else None

    def put_in(self, call: Call, body: bytes | None, headers: CIMultiDict[str]) -> bytes | None:
        """The body that is forwarded, with a callback to us in it, if it is to have one."""
        callback, request = self._callback(call), call.sources.get("request")
        if callback is None or body is None:
            return body
        wished = wish(callback, request)
        assert not isinstance(wished, Refused), "it was refused"
        if wished is None and not callback.always:
            return body
        plain = decoded(body, headers.get("Content-Encoding", ""), call.route.body_bytes_max)
        assert plain is not None and call.route.job is not None, "it was read"
        call.callback = wished or {}
        for name in OF_THE_BYTES:
            headers.popall(name, None)
        return swapped(callback, plain, request, self.url(call.account, call.route.job, call.id))

    def url(self, account: str, job: Job, call_id: str) -> str:
        """Where the service calls back for the job of a call."""
        expires = int(self._clock.now()) + known_seconds(job)
        token = CallbackToken(account=account, kind=job.kind, call_id=call_id, expires=expires)
        return f"{self._public_url}/callbacks/{self._write_token(token)}"

    def _callback(self, call: Call) -> Callback | None:
        job = call.route.job
        return job.callback if job is not None and self._public_url else None


def header_of(given: Mapping[str, str]) -> dict[str, str]:
    """The client's header, as one or no field."""
    return {given["name"]: given["value"]} if "name" in given else {}


def shown(call: Call, job: Job | None) -> Mapping[str, Any]:
    """What a reply is to say of the client's webhook: nothing where no callback of ours was put in."""
    given = call.callback
    if given is None and call.record is not None:
        given = call.record.facts.get("callback")
    return {} if job is None or job.callback is None or given is None else echo(job.callback, given)
