"""Dialects: templates of refusals, with every placeholder known before the first refusal.

Owns: which placeholders and codes there are. Does not know: how a refusal is rendered.
"""

import re
from collections.abc import Collection
from string import Formatter
from typing import Any, Final

from gateway.core.errors import REFUSALS, Code
from gateway.settings.compile.scope import Scope
from gateway.settings.problems import Place, nearest
from gateway.settings.products import ErrorStyle, ErrorWording
from gateway.settings.schema.errors import ErrorsSettings, WordingSettings

_PLACEHOLDERS: Final = ("message", "code", "status", "call_id")
_BRACED: Final = re.compile(r"\{([^{}]*)\}")
#: Clients retry these, which would hammer an account without credit.
_RETRIED: Final = (429, *range(500, 600))
#: No error, to clients: come again.
_ACCEPTED: Final = 202


def compile_errors(settings: ErrorsSettings, place: Place, scope: Scope) -> ErrorStyle:
    """The dialect, its problems noted."""
    check_body(settings.body, place.at("body"), scope)
    codes: dict[Code, ErrorWording] = {}
    for name, wording in settings.codes.items():
        where = place.at("codes", name)
        if is_code(name, where, scope):
            codes[Code(name)] = _wording(Code(name), wording, where, scope)
    return ErrorStyle(body=settings.body, codes=codes)


def compile_not_found(
    settings: WordingSettings | None, product: ErrorStyle, place: Place, scope: Scope
) -> ErrorStyle | None:
    """The product's dialect with a route's own words for what is not the caller's; None: it has none."""
    if settings is None:
        return None
    its = _wording(Code.NOT_FOUND, settings, place, scope)
    return ErrorStyle(body=product.body, codes={**product.codes, Code.NOT_FOUND: its})


def is_code(name: str, place: Place, scope: Scope) -> bool:
    """Whether there is such a code."""
    return scope.known(place, name, [code.value for code in Code], "code", at_key=True)


def _wording(code: Code, settings: WordingSettings, place: Place, scope: Scope) -> ErrorWording:
    if settings.body is not None:
        check_body(settings.body, place.at("body"), scope)
    if settings.message is not None:
        check_message(code, settings.message, place.at("message"), scope)
    if code is Code.INSUFFICIENT_CREDIT and settings.status in _RETRIED:
        message = f"clients retry {settings.status}, again and again: answer missing credit with 400 or 402"
        scope.report.add(place.at("status"), message)
    if settings.status is not None and settings.status < 400:
        later = code is Code.JOB_NOT_FINISHED and settings.status == _ACCEPTED
        if not later:
            scope.report.add(place.at("status"), "a refusal is an error, 400 to 599; only job_not_finished may be 202")
    return ErrorWording(status=settings.status, message=settings.message, body=settings.body)


def check_message(code: Code, text: str, place: Place, scope: Scope) -> None:
    """Every detail that the sentence names is one of the code's."""
    refusal = REFUSALS[code]
    known = [*(name for _, name, _, _ in Formatter().parse(refusal.message) if name), *refusal.also]
    try:
        used = [(name, spec, how) for _, name, spec, how in Formatter().parse(text) if name is not None]
    except ValueError:
        scope.report.add(place, "a brace stands alone: write {{ and }} for braces")
        return
    for name, spec, how in used:
        if spec or how or name not in known:
            scope.report.add(place, f'{code} has no detail "{{{name}}}"{nearest(name, known)}')


def check_body(template: Any, place: Place, scope: Scope, placeholders: Collection[str] = _PLACEHOLDERS) -> None:
    """Every placeholder of the template is known."""
    if isinstance(template, dict):
        for name, below in template.items():
            check_body(below, place.at(name), scope, placeholders)
    elif isinstance(template, list):
        for index, below in enumerate(template):
            check_body(below, place.at(index), scope, placeholders)
    elif isinstance(template, str):
        for name in _BRACED.findall(template):
            scope.known(place, name, placeholders, "placeholder")
