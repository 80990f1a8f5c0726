"""Records: the values that cross the path of a call.

Owns: the decorators they are made with. Frozen for the type checker, which sees every assignment in this project
(`mypy --strict`); plain at run time, because a frozen dataclass pays a function call for each field it is given, and
a call makes a dozen records.
Does not know: what is in them.
"""

from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=True)
def record(cls: type[_T]) -> type[_T]:
    """A slotted, keyword-only, comparable, hashable dataclass that nobody may assign to."""
    return dataclass(slots=True, kw_only=True, unsafe_hash=True)(cls)


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=True)
def open_record(cls: type[_T]) -> type[_T]:
    """The same without slots: orjson writes it in a third of the time."""
    return dataclass(kw_only=True, unsafe_hash=True)(cls)


def blank(cls: type[_T]) -> Any:
    """A record without fields, for the largest that every call makes: whoever asks fills all, defaults included.

    A constructor looks for the place of each keyword anew in every call: a microsecond for twenty of them.
    """
    return cls.__new__(cls)
