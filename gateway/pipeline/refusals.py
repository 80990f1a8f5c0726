"""The one renderer of refusals: a code and its details, in the product's dialect.

Owns: status, body and headers of every answer that the gateway makes itself.
Does not know: why a call was refused.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from multidict import CIMultiDict

from gateway.core.admission import Rate, RateState
from gateway.core.errors import REFUSALS, Code, Refused
from gateway.core.record import record
from gateway.pipeline.call import Answer
from gateway.settings.products import ErrorStyle

#: In answers that the gateway makes itself, and where an upstream names no server.
SERVER = "gateway"


class _Details(dict[str, str]):
    """A detail that is not known reads as an ellipsis; a message never fails to be written."""

    def __missing__(self, key: str) -> str:
        return "…"


@record
class Told:
    """A refusal in a product's words: the HTTP status, the sentence, and the JSON data that they are filled in."""

    status: int
    message: str
    template: Any


def worded(style: ErrorStyle, refused: Refused) -> Told:
    """The words for a refusal: the product's where it has some, else the default's."""
    wording = style.codes.get(refused.code)
    default = REFUSALS[refused.code]
    return Told(
        status=(wording and wording.status) or default.status,
        message=sentence((wording and wording.message) or default.message, refused),
        template=wording.body if wording is not None and wording.body is not None else style.body,
    )


def sentence(message: str, refused: Refused) -> str:
    """The sentence with the refusal's details."""
    return message.format_map(_Details({**REFUSALS[refused.code].otherwise, **refused.details}))


def render(style: ErrorStyle, refused: Refused, call_id: str, rates: tuple[Rate, ...] = ()) -> Answer:
    """The answer for a refusal. The body is JSON with a space after each colon, as the vendor writes it."""
    told = worded(style, refused)
    status = told.status
    values = {"{message}": told.message, "{code}": str(refused.code), "{status}": status, "{call_id}": call_id}
    headers = CIMultiDict(
        {
            "Content-Type": "application/json",
            "X-Gateway-Error": str(refused.code),
            "X-Gateway-Call-Id": call_id,
            "Server": SERVER,
        }
    )
    if refused.retry_after_seconds is not None:
        headers["Retry-After"] = str(refused.retry_after_seconds)
    if refused.code is Code.UPGRADE_REQUIRED:
        headers["Upgrade"] = "websocket"
        headers["Sec-WebSocket-Version"] = "13"
    if refused.code is Code.RATE_LIMITED and rates:
        name, quota = refused.details.get("rate", rates[0].name), refused.details.get("quota")
        in_force = [replace(rate, quota=int(quota)) if quota and rate.name == name else rate for rate in rates]
        headers["RateLimit-Policy"] = ", ".join([rate.policy for rate in in_force])
        headers["RateLimit"] = f'"{name}";r=0;t={refused.retry_after_seconds or 1}'
    body = json.dumps(filled(told.template, values), ensure_ascii=False).encode()
    return Answer(status=status, reason="", headers=headers, body=body)


def filled(template: Any, values: Mapping[str, Any]) -> Any:
    """JSON data with the values filled in; a text that is just the name of a value becomes the value itself."""
    if type(template) is str:
        if template in values:
            return values[template]
        for name, value in values.items():
            if name in template:
                template = template.replace(name, str(value))
        return template
    if isinstance(template, Mapping):
        return {key: filled(value, values) for key, value in template.items()}
    if isinstance(template, list | tuple):
        return [filled(value, values) for value in template]
    return template


def rate_fields(states: tuple[RateState, ...]) -> dict[str, str]:
    """How the limits stand that a call is counted in, which are some: requests left, and seconds until the window
    starts afresh (draft-ietf-httpapi-ratelimit-headers-10).
    """
    policies, left = [], []
    for state in states:
        rate = state.rate
        policies.append(rate.policy)
        left.append(f'"{rate.name}";r={state.remaining};t={state.reset_seconds}')
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(left)}
