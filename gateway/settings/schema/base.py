"""The types that every file is made of.

Owns: names, money, fields, secrets, numbers: how each is written and what is said if it is not.
Does not know: any single file.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationInfo

from gateway.core import extract
from gateway.core.money import BALANCE_MAX, Nanos, decimal_ratio, format_usd, parse_usd
from gateway.settings.origins import Reading, read_text
from gateway.settings.tls import PemFile
from gateway.settings.yaml import FromEnvironment, parse_scalar

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SKU: Final = re.compile(r"[a-z0-9{][A-Za-z0-9._{}-]{0,127}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")


class Settings(BaseModel):
    """A mapping of a file: only the keys that it names, each of exactly its type."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False
    )


def key(meaning: str, *, default: Any = ..., unit: str = "", shown: str | None = None, **rules: Any) -> Any:
    """A key: what it means, its default (none: it must be given), its unit, how the docs show the default."""
    extra: dict[str, Any] = {"unit": unit, "shown": shown}
    if callable(default):
        return Field(default_factory=default, description=meaning, json_schema_extra=extra, **rules)
    return Field(default, description=meaning, json_schema_extra=extra, **rules)


def text_of(value: Any, otherwise: str) -> str:
    """The value, if it is text; else what is said of it."""
    if isinstance(value, str):
        return str(value)
    raise ValueError(otherwise)


# ---- text


def plain_text(value: Any) -> Any:
    """A value from the environment as the text that it is."""
    return str(value) if isinstance(value, FromEnvironment) else value


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError("a name is made of lower-case letters, digits, dots, dashes and underscores (at most 64)")
    return text


def _sku(text: str) -> str:
    if not _SKU.fullmatch(text) or re.search(r"[{}]", text.replace("{model}", "")):
        raise ValueError('a SKU is letters, digits, dots, dashes and underscores; "{model}" stands for the model')
    return text


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


def _header(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise ValueError("this is not the name of a header")
    return text


def base_url(text: str) -> str:
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise ValueError("must be the URL of a service, like https://api.example.com")
    if parts.query or parts.fragment or parts.username or parts.password or not text.isprintable() or " " in text:
        raise ValueError("must be only scheme, host, port and path: no user, query or fragment")
    return text.rstrip("/")


Word = Annotated[str, BeforeValidator(plain_text)]
Name = Annotated[Word, AfterValidator(_name)]
Sku = Annotated[Word, AfterValidator(_sku)]
Filled = Annotated[Word, AfterValidator(_filled)]
BaseUrl = Annotated[Filled, AfterValidator(base_url)]
HeaderName = Annotated[Word, AfterValidator(_header)]


def _secret(value: Any, info: ValidationInfo) -> Any:
    """`file:/path` is the content of that file, without white space around it."""
    value = text_of(value, "must be text: put it in quotes")
    if value.startswith("file:"):
        value = _content(_path(value.removeprefix("file:"), info), info, "the secret's file")
    if not value.isprintable():
        raise ValueError("a secret is one line of printable text")
    return value


def _path(name: str, info: ValidationInfo) -> Path:
    """Names are relative to the file of the config."""
    directory: Path = (info.context or {}).get("directory", Path())
    return directory / name


def _content(path: Path, info: ValidationInfo, what: str, *, certificate: bool = False) -> str:
    """What is in a file, without white space around it."""
    context: dict[str, Any] = info.context or {}
    reading: Reading = context.get("reading") or Reading()
    reading.opens(path)
    text = read_text(path, what)
    reading.held(path, text, certificate=certificate)
    return text


def _pem(value: Any, info: ValidationInfo) -> PemFile:
    name = text_of(value, "must be the path of a file")
    path = _path(name.removeprefix("file:"), info)
    return PemFile(path, _content(path, info, "the file", certificate=True))


#: Text that is never shown; may be `file:/path`.
Secret = Annotated[str, BeforeValidator(_secret)]
#: The path of a file in PEM; its content, once it is read.
Pem = Annotated[PemFile, PlainValidator(_pem)]


# ---- numbers


def _from_environment(value: Any) -> Any:
    return parse_scalar(value) if isinstance(value, FromEnvironment) else value


Whole = Annotated[int, BeforeValidator(_from_environment)]
Seconds = Annotated[float, BeforeValidator(_from_environment)]
Flag = Annotated[bool, BeforeValidator(_from_environment)]


def _money(value: Any) -> Nanos:
    if type(value) in (int, float):
        raise ValueError(f'money is text, so that no digit is lost: put it in quotes, "{value}"')
    amount = parse_usd(text_of(value, 'must be an amount of dollars in quotes, like "12.50"'))
    if not 0 <= amount <= BALANCE_MAX:
        raise ValueError(f"an amount is at least 0 and at most {format_usd(BALANCE_MAX).partition('.')[0]} dollars")
    return amount


def _decimal(value: Any) -> str:
    if type(value) in (int, float):
        raise ValueError(f'prices and percentages are text, so that no digit is lost: put it in quotes, "{value}"')
    text = text_of(value, 'must be a decimal number in quotes, like "0.21"')
    decimal_ratio(text)
    return text


def _percent(text: str) -> str:
    numerator, denominator = decimal_ratio(text)
    if numerator > 100 * denominator:
        raise ValueError(f"a discount of {text}% is more than everything: at most 100")
    return text


Money = Annotated[Nanos, PlainValidator(_money)]
Price = Annotated[str, PlainValidator(_decimal)]
Percent = Annotated[str, PlainValidator(_decimal), AfterValidator(_percent)]


# ---- fields

_BEFORE: Final = ("request", "request_header", "query", "path")


def _field(value: Any) -> extract.Field:
    return extract.Field.parse(text_of(value, "must be a field, like reply.id"))


def _single(value: extract.Field) -> extract.Field:
    if "*" in value.steps:
        raise ValueError("one value is read here: * is only for models.asked, rejects and content")
    return value


def _asked(value: extract.Field) -> extract.Field:
    if value.source not in _BEFORE:
        raise ValueError(f"this is read before the call is forwarded: use one of {', '.join(_BEFORE)}")
    return value


def _expected(value: extract.Field) -> extract.Field:
    if value.source not in (*_BEFORE, "resource", "part"):
        raise ValueError(f"this is read before the call is forwarded: use one of {', '.join(_BEFORE)}, resource, part")
    return value


def _told(value: extract.Field) -> extract.Field:
    if value.source not in ("reply", "reply_header"):
        raise ValueError("this is read from the reply: write reply.x or reply_header.x")
    return value


def _in_body(value: extract.Field) -> extract.Field:
    if value.source != "reply":
        raise ValueError("this is read from the reply's body: write reply.x")
    return value


def _framed(value: extract.Field) -> extract.Field:
    if value.source != "frame":
        raise ValueError("this is read from a frame: write frame.x")
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Anything = Annotated[extract.Field, PlainValidator(_field), AfterValidator(_single)]
Asked = Annotated[extract.Field, PlainValidator(_field), AfterValidator(_single), AfterValidator(_asked)]
AskedAll = Annotated[extract.Field, PlainValidator(_field), AfterValidator(_asked)]
Told = Annotated[extract.Field, PlainValidator(_field), AfterValidator(_single), AfterValidator(_told)]
InBody = Annotated[extract.Field, PlainValidator(_field), AfterValidator(_single), AfterValidator(_in_body)]
InBodyAll = Annotated[extract.Field, PlainValidator(_field), AfterValidator(_in_body)]
Framed = Annotated[extract.Field, PlainValidator(_field), AfterValidator(_single), AfterValidator(_framed)]
#: One, or a list of them.
Fields = Annotated[list[Anything], BeforeValidator(_listed)]
ExpectedFields = Annotated[
    list[Annotated[extract.Field, PlainValidator(_field), AfterValidator(_single), AfterValidator(_expected)]],
    BeforeValidator(_listed),
]
AskedFields = Annotated[list[Asked], BeforeValidator(_listed)]
AskedAllFields = Annotated[list[AskedAll], BeforeValidator(_listed)]
Names = Annotated[list[Name], BeforeValidator(_listed)]
Texts = Annotated[list[Filled], BeforeValidator(_listed)]
