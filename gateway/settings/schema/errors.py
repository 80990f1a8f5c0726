"""`errors`: a dialect of refusals."""

from typing import Any

from gateway.settings.schema.base import Filled, Settings, Whole, key


class WordingSettings(Settings):
    """How one code is worded; what is left out is as for every code."""

    status: Whole | None = key(
        "HTTP status; of `job_not_finished` also 202", default=None, ge=202, le=599, shown="the code's own"
    )
    message: Filled | None = key(
        "Sentence for people; `{name}` is filled from the refusal's details", default=None, shown="the code's own"
    )
    body: Any = key("Body in place of the dialect's", default=None, shown="the dialect's")


class ErrorsSettings(Settings):
    """A dialect of refusals."""

    body: Any = key("JSON body; `{message}`, `{code}`, `{status}` and `{call_id}` are filled")
    codes: dict[str, WordingSettings] = key("Single codes that are worded differently", default=dict, shown="none")
