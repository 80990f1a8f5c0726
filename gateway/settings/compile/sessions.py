"""Sockets: sessions with their frames and wordings, and the minting of tokens that open them.

Owns: what a session and a mint need, and what does not go with them.
Does not know: how sessions are metered (`metering`), how frames are passed on.
"""

import json
from typing import Any, Final

from gateway.core.errors import Code
from gateway.core.extract import Field
from gateway.settings.compile.errors import check_body, check_message, is_code
from gateway.settings.compile.metering import fields_of_settings
from gateway.settings.compile.scope import Scope
from gateway.settings.problems import Place
from gateway.settings.resources import Requirement
from gateway.settings.routing import Pattern
from gateway.settings.schema.route import RouteSettings
from gateway.settings.schema.session import (
    FrameRefusalsSettings,
    FramesSettings,
    FrameWordingSettings,
    MintSettings,
    SessionSettings,
)
from gateway.settings.sessions import FrameWording, JudgedFrame, RefusingFrame, Session, TokenMint

_PLACEHOLDERS: Final = ("message", "code", "close_code", "call_id", "session_id")
#: What a route that is a socket, or mints tokens, cannot have as well.
_ALIEN: Final = ("job", "reports", "creates", "deletes", "lists", "body", "hold")


def compile_session(settings: SessionSettings, place: Place, scope: Scope) -> Session:
    """The session, its problems noted."""
    frames, refusals = settings.frames, settings.refusals
    _check_times(settings, place, scope)
    _check_frames(settings, place.at("frames"), scope)
    general = None if refusals is None else _general(refusals, place.at("refusals"), scope)
    return Session(
        **{name: value for name, value in settings if name.endswith(("_seconds", "_max"))},
        kind=settings.resource or "",
        id=frames.id,
        expires=frames.expires,
        type_field=frames.type_field,
        begins=frames.begins or "",
        ends=frames.ends or "",
        reports=frozenset(frames.reports),
        updates=frozenset(frames.updates),
        judged=_judged(frames, general, place.at("frames"), scope),
        refusing=tuple(RefusingFrame(**dict(refusing)) for refusing in frames.refuses_us),
        client_binary=frames.client_binary,
        terminate=_text(frames.terminate),
        refusal=general,
        refusals={} if refusals is None or general is None else _codes(refusals, general, place.at("refusals"), scope),
        warning=frames.warning,
    )


def _text(frame: Any) -> str:
    if frame is None:
        return ""
    return frame if isinstance(frame, str) else json.dumps(frame)


def _judged(
    frames: FramesSettings, general: FrameWording | None, place: Place, scope: Scope
) -> tuple[JudgedFrame, ...]:
    found = []
    for index, judged in enumerate(frames.judged):
        where = place.at("judged", index)
        scope.known(where.at("resource"), judged.resource, scope.kinds, "resource")
        refusal = None
        if judged.refusal != FrameWordingSettings():
            if general is None:
                scope.report.add(where.at("refusal"), "refusals are worded in band only with refusals", at_key=True)
            else:
                refusal = _wording(Code.NOT_FOUND, judged.refusal, general, where.at("refusal"), scope)
        requirement = Requirement(kind=judged.resource, field=judged.id)
        found.append(JudgedFrame(type=judged.type, requirement=requirement, refusal=refusal))
    return tuple(found)


# ---- wordings


def _general(settings: FrameRefusalsSettings, place: Place, scope: Scope) -> FrameWording:
    check_body(settings.body, place.at("body"), scope, _PLACEHOLDERS)
    check_body(settings.close_reason, place.at("close_reason"), scope, ("code", "message"))
    return FrameWording(body=settings.body, close_code=settings.close_code, close_reason=settings.close_reason)


def _codes(
    settings: FrameRefusalsSettings, general: FrameWording, place: Place, scope: Scope
) -> dict[Code, FrameWording]:
    return {
        Code(name): _wording(Code(name), wording, general, place.at("codes", name), scope)
        for name, wording in settings.codes.items()
        if is_code(name, place.at("codes", name), scope)
    }


def _wording(
    code: Code, settings: FrameWordingSettings, general: FrameWording, place: Place, scope: Scope
) -> FrameWording:
    """A code's wording: what it leaves out is the session's."""
    if settings.message is not None:
        check_message(code, settings.message, place.at("message"), scope)
    check_body(settings.body, place.at("body"), scope, _PLACEHOLDERS)
    if settings.close_reason is not None:
        check_body(settings.close_reason, place.at("close_reason"), scope, ("code", "message"))
    return FrameWording(
        body=general.body if settings.body is None else settings.body,
        close_code=settings.close_code or general.close_code,
        close_reason=settings.close_reason or general.close_reason,
        message=settings.message,
    )


# ---- what must go together


def _check_times(settings: SessionSettings, place: Place, scope: Scope) -> None:
    slice_seconds = settings.slice_seconds
    if settings.renew_before_seconds >= slice_seconds:
        message = f"the next slice would be due before this one began: less than slice_seconds ({slice_seconds:g})"
        scope.report.add(place.at("renew_before_seconds"), message)
    if settings.seconds_max < slice_seconds:
        message = f"a session would be shorter than its first slice: at least slice_seconds ({slice_seconds:g})"
        scope.report.add(place.at("seconds_max"), message)


def _check_frames(settings: SessionSettings, place: Place, scope: Scope) -> None:
    frames, add = settings.frames, scope.report.add
    check_body(frames.warning, place.at("warning"), scope, ("seconds_left",))
    if settings.resource is not None and frames.id is None:
        add(place, "a session that is a resource has an id: add id to frames, like id: frame.session_id", at_key=True)
    if frames.id is not None and frames.begins is None:
        add(place.at("id"), "the frame that names the session is not known: add begins", at_key=True)
    if frames.ends is not None and frames.ends == frames.begins:
        add(place.at("ends"), "this is also the type of the frame that begins it")


def check_socket(settings: RouteSettings, pattern: Pattern, place: Place, scope: Scope) -> None:
    """A route with a socket, or with a mint, is nothing else; and what is read of frames is in frames that are read."""
    add, session = scope.report.add, settings.session
    if settings.meter == "session" and session is None:
        add(place.at("meter"), "meter: session needs session: what the socket is like")
    if settings.meter != "session" and session is not None:
        add(place.at("meter"), "a route with session is paid for while it is open: write meter: session", at_key=True)
    for name, given in (("session", session), ("mints", settings.mints)):
        if given is None:
            continue
        if pattern.methods != {"GET"}:
            add(place.at("match"), f"a route with {name} is asked with GET")
        for key in _ALIEN:
            if getattr(settings, key):
                add(place.at(key), f"a route with {name} has no {key}: remove it", at_key=True)
    if settings.mints is not None:
        for key, wrong in (("meter", settings.meter != "none"), ("public", settings.public)):
            if wrong:
                add(place.at(key), "a token is minted for its caller, and free: remove this", at_key=True)
    if session is not None:
        _check_read(settings, session.frames, place, scope)


def _check_read(settings: RouteSettings, frames: FramesSettings, place: Place, scope: Scope) -> None:
    read = fields_of_settings(settings)
    if not any(measure.clock or _reads(measure.fields, "frame") for measure in settings.usage.values()):
        message = "nothing tells how long it was: a measure needs clock: true, or a field of a frame"
        scope.report.add(place.at("usage"), message, at_key=True)
    if _reads(read, "frame") and not (frames.begins or frames.ends or frames.reports):
        message = "no frame of the upstream's is read: name types in begins, ends or reports"
        scope.report.add(place.at("session", "frames"), message, at_key=True)
    if _reads(read, "request") and not frames.updates:
        message = "request.x is a field of the client's updates: name their types in updates"
        scope.report.add(place.at("session", "frames"), message, at_key=True)


def _reads(fields: list[Field], source: str) -> bool:
    return any(field.source == source for field in fields)


# ---- tokens


def compile_mint(settings: MintSettings, product: str, place: Place, scope: Scope) -> TokenMint:
    """The mint, its problems noted."""
    target = settings.product or product
    if scope.known(place.at("product"), target, scope.products, "product") and target not in scope.sockets:
        scope.report.add(
            place.at("product"), f"{target} has no sessions: a token opens those of a product", at_key=True
        )
    check_body(settings.reply, place.at("reply"), scope, ("token", "expires_in_seconds"))
    for name in ("expires", "session"):
        least, most = getattr(settings, f"{name}_seconds_min"), getattr(settings, f"{name}_seconds_max")
        if least > most:
            scope.report.add(place.at(f"{name}_seconds_min"), f"this is more than {name}_seconds_max ({most})")
    default = settings.expires_seconds_default
    if default is not None and not settings.expires_seconds_min <= default <= settings.expires_seconds_max:
        bounds = f"{settings.expires_seconds_min} to {settings.expires_seconds_max}"
        scope.report.add(place.at("expires_seconds_default"), f"the default is not from {bounds}")
    return TokenMint(
        **{name: value for name, value in settings if "_seconds_" in name or name in ("once", "reply")},
        product=target,
        expires_parameter=settings.expires,
        session_parameter=settings.session,
    )
