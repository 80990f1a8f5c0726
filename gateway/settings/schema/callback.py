"""How a service calls back when a job is over: the part of a product file that says so."""

from typing import Annotated

from pydantic import AfterValidator

from gateway.settings.schema.base import Filled, Flag, Seconds, Settings, key


def _top(text: str) -> str:
    if "." in text:
        raise ValueError("must be the name of a field of the body itself, without dots")
    return text


FieldName = Annotated[Filled, AfterValidator(_top)]


class CallbackSettings(Settings):
    """A job's callback. With `customers.public_url` the service calls the gateway, which then calls the client."""

    url: FieldName = key("Field of the request, and of replies, with the client's URL")
    header_name: FieldName | None = key(
        "Field, alike, with the name of a header that the client wants with the call", default=None, shown="none"
    )
    header_value: FieldName | None = key("Field of the request with its value", default=None, shown="none")
    has_header: FieldName | None = key("Field of replies that says whether there is one", default=None, shown="none")
    answered: FieldName | None = key(
        "Field of replies with the status that the client's server answered; it is null here",
        default=None,
        shown="none",
    )
    id: FieldName = key("Field of the callback's body with the job's id")
    status: FieldName = key("Field of the callback's body that says how the job stands")
    always: Flag = key("The gateway is called back where the client gives no URL, too", default=False)
    grace_seconds: Seconds = key(
        "A client whose job's end the gateway learned in another way is told so long after it, if the service has not "
        "called back by then",
        default=60.0,
        unit="seconds",
        ge=0,
        le=86400,
    )
