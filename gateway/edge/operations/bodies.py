"""How what is asked of us is read: whole, with every problem told at once.

Owns: what a body is, what is said of one that is wrong, pages and names of operations as they are asked for.
Does not know: any single request or field, HTTP, the command line (both read their input here).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator
from pydantic_core import ErrorDetails

from gateway.core.errors import Code, GatewayError
from gateway.settings.runtime import Runtime

PAGE_ITEMS_MAX: Final = 1000
PAGE_ITEMS_DEFAULT: Final = 100
_IDEMPOTENCY_KEY: Final = re.compile(r"[A-Za-z0-9_.:~+/=-]{1,128}")
#: What people get wrong in forms too, in words of ours.
_SAID: Final = {
    "int_type": "it must be a whole number",
    "greater_than_equal": "it must be at least {ge}",
    "less_than_equal": "it must be at most {le}",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with what was asked. `pointer` is the JSON pointer of the field, "" for the whole."""

    pointer: str
    detail: str


class Invalid(GatewayError):
    """What was asked cannot be read; `problems` has everything that is wrong. No input that may be secret is in it."""

    code = Code.INVALID_REQUEST

    def __init__(self, problems: Iterable[Problem], *, malformed: bool = False) -> None:
        self.problems = tuple(problems)
        self.malformed = malformed  # no JSON at all
        super().__init__("; ".join(f"{p.pointer}: {p.detail}" if p.pointer else p.detail for p in self.problems))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the checks look at beside the input: the config, and the time (ms).

    `named`: it may be the repeat of a request, whose times were to come when it was made first.
    """

    runtime: Runtime
    now_ms: int
    named: bool = False

    @classmethod
    def of(cls, info: ValidationInfo) -> Self:
        """That of the check under way."""
        assert isinstance(info.context, cls)
        return info.context


class Body(BaseModel):
    """A request. Fields that it does not have are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    @classmethod
    def may_be_left_out(cls) -> bool:
        """Whether it has to say nothing."""
        return not any(field.is_required() for field in cls.model_fields.values())


class Change(Body):
    """A request to change what it names, and only that. Null is a value: it takes a limit or a rate card away."""

    @classmethod
    def may_be_left_out(cls) -> bool:
        """It has to name something."""
        return False

    @model_validator(mode="after")
    def _names_something(self) -> "Change":
        if not self.model_fields_set:
            raise ValueError(f"name at least one of: {', '.join(type(self).model_fields)}")
        return self


Model = TypeVar("Model", bound=Body)


def read_body(model: type[Model], raw: bytes, setting: Setting) -> Model:
    """The request in the JSON text. Raises Invalid with everything that is wrong."""
    try:
        return model.model_validate_json(raw, context=setting)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems = [Problem(_pointer(d["loc"]), _detail(d)) for d in details]
        raise Invalid(problems, malformed=details[0]["type"] == "json_invalid") from None


def read_page(after: str, limit: str) -> tuple[str, int]:
    """Where a page begins and how many items it has. Raises Invalid."""
    problems = []
    if len(after) > 200:
        problems.append(Problem("after", "this is not an id of ours"))
    if not re.fullmatch(r"\d{1,4}", limit, re.ASCII) or not 1 <= int(limit) <= PAGE_ITEMS_MAX:
        problems.append(Problem("limit", f"a page has 1 to {PAGE_ITEMS_MAX} items"))
    if problems:
        raise Invalid(problems)
    return after, int(limit)


def read_idempotency_key(text: str) -> str:
    """The key without the quotes that the header's draft standard puts around it. Raises Invalid."""
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not _IDEMPOTENCY_KEY.fullmatch(bare):
        raise Invalid([Problem("Idempotency-Key", "1 to 128 letters, digits and _ . : ~ + / = -, best a UUID")])
    return bare


def _detail(error: ErrorDetails) -> str:
    said = _SAID.get(error["type"], "").format_map(error.get("ctx", {}))
    return said or error["msg"].removeprefix("Value error, ")


def _pointer(location: tuple[int | str, ...]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location)
