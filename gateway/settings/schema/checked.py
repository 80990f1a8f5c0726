"""From data to a model of `schema`, every error as a problem at its place, in plain words.

Owns: what is said for each kind of error, the nearest valid key.
Does not know: any single key.
"""

from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway.settings.origins import Reading
from gateway.settings.problems import Document, Place, Report, Step, nearest
from gateway.settings.schema.base import Settings

_Model = TypeVar("_Model", bound=Settings)

_NOTHING: Final = object()
_MAPPING: Final = "must be a mapping of keys to values"
_SENTENCES: Final = {
    "string_type": "must be text: put it in quotes",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


def checked(
    model: type[_Model], document: Document, report: Report, directory: Path, reading: Reading | None = None
) -> _Model | None:
    """The document as a model; None where it has problems, which are all noted. `reading` is told of other files."""
    if not isinstance(document.data, dict):
        report.add(Place(document), f"the file {_MAPPING}")
        return None
    try:
        return model.model_validate(document.data, context={"directory": directory, "reading": reading})
    except ValidationError as error:
        for found in error.errors(include_url=False):
            _note(model, Place(document), found, report)
        return None


def _note(model: type[Settings], root: Place, error: ErrorDetails, report: Report) -> None:
    # pydantic marks an error of a mapping's key by a step of its own behind the key
    steps: tuple[Step, ...] = tuple(step for step in error["loc"] if step != "[key]")
    at_key = len(steps) != len(error["loc"])
    place = root.at(*_written(root.document.data, steps))
    kind = error["type"]
    if kind == "extra_forbidden":
        known = keys_of(_model_at(model, steps[:-1]))
        report.add(place, f"unknown key{nearest(str(steps[-1]), known)}", at_key=True)
    elif kind == "missing":
        owner = _model_at(model, steps[:-1])
        meaning = _meaning(owner, str(steps[-1]))
        report.add(
            root.at(*_written(root.document.data, steps[:-1])),
            f'the key "{steps[-1]}" is missing: {meaning}',
            at_key=True,
        )
    else:
        report.add(place, _sentence(error), at_key=at_key)


def _sentence(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("literal_error", "enum"):
        choices = [choice.strip("' ") for choice in str(context["expected"]).replace(" or ", ",").split(",")]
        near = nearest(error["input"], choices) if isinstance(error["input"], str) else ""
        near = near if "did you mean" in near else ""
        return f"must be one of {', '.join(choices)}{near}"
    if error["input"] is None and kind.endswith("_type"):
        return f"has no value: it {_SENTENCES.get(kind, 'must have one')}"
    sentence = _SENTENCES.get(kind)
    if sentence is None:
        return error["msg"]
    return sentence.format_map(
        {name: f"{value:g}" if isinstance(value, float) else value for name, value in context.items()}
    )


def _written(data: Any, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps as far as they are in the file: a short form (`when: reply.x`) has fewer of them than the model."""
    found: list[Step] = []
    for index, step in enumerate(steps):
        below = _below(data, step)
        if below is not _NOTHING:
            data = below
        elif isinstance(data, list) and isinstance(step, str):
            continue  # `any` of a condition that is written as a list
        elif not (isinstance(data, dict) and index == len(steps) - 1):
            break
        found.append(step)
    return tuple(found)


def _below(data: Any, step: Step) -> Any:
    if isinstance(data, dict):
        return data.get(step, _NOTHING)
    if isinstance(data, list) and isinstance(step, int) and step < len(data):
        return data[step]
    return _NOTHING


def keys_of(model: type[BaseModel] | None) -> dict[str, str]:
    """The keys of a mapping as they are written, with their meaning."""
    if model is None:
        return {}
    return {info.alias or name: info.description or "" for name, info in model.model_fields.items()}


def _meaning(model: type[BaseModel] | None, name: str) -> str:
    text = keys_of(model).get(name, "")
    return text[:1].lower() + text[1:]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a key's type holds: itself, its items or its values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def _model_at(model: type[BaseModel] | None, steps: tuple[Step, ...]) -> type[BaseModel] | None:
    """The model of the mapping at a path: steps that are no key of it are indexes and names."""
    for step in steps:
        if model is None:
            return None
        info = next((info for name, info in model.model_fields.items() if (info.alias or name) == step), None)
        if info is not None:
            below = models_in(info.annotation)
            model = below[0] if below else None
    return model
