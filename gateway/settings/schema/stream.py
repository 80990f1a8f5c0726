"""`routes[].stream`: a reply that may be a stream of events."""

from typing import Annotated, Any

from pydantic import AfterValidator

from gateway.settings.schema.base import Asked, Filled, Flag, InBody, InBodyAll, Settings, Whole, key


def _path(text: str) -> str:
    if not all(text.split(".")):
        raise ValueError("name a field of the request's body, like stream_options.include_usage")
    return text


class DropsSettings(Settings):
    """Events that only say what was used."""

    has: InBody = key("Field that such an event reports")
    lacks: InBody = key("Field that it does not have, or has empty: what it would bring the client")


class StreamSettings(Settings):
    """A reply that is a stream of events where the request asks for one. `reply.x` is the field `x` of an event."""

    when: Asked = key("Field of the request that asks for a stream where it is on")
    asks: dict[Annotated[Filled, AfterValidator(_path)], Any] = key(
        "Fields set in the forwarded body of such a request, so that the stream reports usage",
        default=dict,
        shown="nothing",
    )
    drops: DropsSettings | None = key(
        "Events taken out for a client that did not itself ask for all of `asks`", default=None, shown="none"
    )
    end: Filled | None = key("Data of the event that ends a stream", default=None, shown="none")
    errors: list[InBody] = key(
        "Fields that are on in an event where the service failed, beside events of type `error`",
        default=list,
        shown="none",
    )
    content: list[InBodyAll] = key(
        "Texts that count as delivered; `*` is every element of a list",
        default=list,
        shown="all of an event's data",
    )
    event_bytes_max: Whole = key(
        "Largest event that is read; a larger one passes, and reports nothing",
        default=1024 * 1024,
        unit="bytes",
        ge=1024,
        le=64 * 1024 * 1024,
    )
    charge_comment: Flag = key(
        "Say what was charged in a comment after the last event: `: gateway call_id=... charge=... currency=USD`",
        default=False,
    )
