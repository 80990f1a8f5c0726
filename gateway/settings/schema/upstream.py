"""The services behind the gateway: where each is, or its endpoints, and which of them gets what."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator

from gateway.settings.schema.base import BaseUrl, Flag, HeaderName, Name, Seconds, Secret, Settings, Whole, Word, key

#: Headers that say how a request is sent, and where to.
_FRAMING: Final = frozenset(
    {"connection", "content-encoding", "content-length", "expect", "host", "keep-alive", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)


def _path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable() or " " in text:
        raise ValueError("must be a path, like /healthz")
    return text


def _statuses(statuses: list[int]) -> list[int]:
    if any(status not in (429, 502, 503, 504, 529) for status in statuses):
        raise ValueError("only 429, 502, 503, 504 and 529 may say that a request was not begun")
    return statuses


def _sent(text: str) -> str:
    if not text.isascii():
        raise ValueError("a credential is sent in a header: letters, digits and signs of ASCII")
    return text


def _free(name: str) -> str:
    if name.lower() in _FRAMING:
        raise ValueError("this header says how the request is sent: a credential needs another one")
    return name


Credential = Annotated[Secret, AfterValidator(_sent)]


class EndpointSettings(Settings):
    """One of several places of a service: a region, or a credential of its own."""

    base_url: BaseUrl = key("URL that paths are added to")
    credential: Credential = key("The service's own credential, sent in place of the customer's. May be `file:/path`")
    region: Name | None = key("Where it is; what is bound to a region goes to no other", default=None, shown="none")
    weight: Whole = key("Its part of new work, beside the others'", default=1, ge=1, le=1_000_000)
    drain: Flag = key("It gets no new work; what was begun there goes on there", default=False)


class HealthSettings(Settings):
    """Endpoints are asked by each worker whether they are well."""

    path: Annotated[Word, AfterValidator(_path)] = key(
        "Path that is asked with GET and the endpoint's credential; an answer below 400 is well"
    )
    every_seconds: Seconds = key("Pause between two of these", default=5.0, unit="seconds", gt=0, le=3600)
    seconds_max: Seconds = key("Longest wait for an answer", default=2.0, unit="seconds", gt=0, le=300)
    failures: Whole = key("So many in a row: it gets no new work", default=2, ge=1, le=100)
    successes: Whole = key("So many in a row: it does again", default=2, ge=1, le=100)


class EjectionSettings(Settings):
    """An endpoint that does not answer, answers 500 and above, or refuses our own credential is let be for a while."""

    failures: Whole = key("So many calls in a row that failed", default=5, ge=1, le=1000)
    seconds: Seconds = key(
        "For how long at first; twice as long each time, until a call succeeds", default=5.0, unit="seconds",
        gt=0, le=3600,
    )  # fmt: skip
    seconds_max: Seconds = key("For how long at most", default=300.0, unit="seconds", gt=0, le=86400)


class UpstreamSettings(Settings):
    """A service that calls are forwarded to. It has a `base_url` and a `credential`, or several `endpoints`."""

    base_url: BaseUrl | None = key("URL that paths are added to", default=None, shown="its endpoints'")
    credential: Credential | None = key(
        "The service's own credential, sent in place of the customer's. May be `file:/path`",
        default=None, shown="its endpoints'",
    )  # fmt: skip
    credential_header: Annotated[HeaderName, AfterValidator(_free)] = key(
        "Header that the credential is sent in", default="Authorization"
    )
    connect_seconds_max: Seconds = key("Longest wait for a connection", default=5.0, unit="seconds", gt=0, le=300)
    reply_seconds_max: Seconds = key(
        "Longest wait for the reply's head, and between pieces of its body",
        default=60.0,
        unit="seconds",
        gt=0,
        le=86400,
    )
    total_seconds_max: Seconds = key(
        "Longest call, from its first byte to its last", default=600.0, unit="seconds", gt=0, le=86400
    )
    connections_max: Whole = key("Open connections; 0: no limit", default=0, unit="connections", ge=0, le=1_000_000)
    looks_per_second_max: Seconds = key(
        "Looks of one worker at jobs that nobody asks for, each second", default=10.0, unit="looks", gt=0, le=10_000
    )
    looks_max: Whole = key("Such looks of one worker at once", default=10, unit="looks", ge=1, le=1000)
    verify_tls: Flag = key("Check the service's certificate", default=True)
    region: Name | None = key("Where its `base_url` is", default=None, shown="none")
    endpoints: dict[Name, EndpointSettings] = key(
        "Its endpoints, by name, in place of `base_url` and `credential`", default=dict, shown="none"
    )
    sticky: Literal["call", "account"] = key(
        "For whom an endpoint is chosen: each `call`, or an `account` once for all", default="call"
    )
    retry_on: Annotated[list[Whole], AfterValidator(_statuses)] = key(
        "Statuses with which an endpoint says that it has not begun: the next one is asked", default=list, shown="none"
    )
    ejection: EjectionSettings = key("When an endpoint is let be", default=EjectionSettings)
    health: HealthSettings | None = key("How endpoints are asked whether they are well", default=None, shown="not")
