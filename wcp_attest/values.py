"""Frozen dataclasses that are cheap to define and cheap to make.

`from wcp_attest.values import dataclass` is the standard library's decorator to a type checker, and behaves like it for
`@dataclass(frozen=True, slots=True)`, the only form made here. The library's own compiles six methods for each class,
0.4 ms; the thirty values between a command line and a verdict would be a quarter of the time that verifying a small
package may take. This one compiles `__init__` and shares the rest. And the library's `__init__` sets each field by name
through `object.__setattr__`; this one sets it through its slot, in half the time: a routing decision has forty fields.

`from_columns` makes a hundred thousand of them in a third of the time that as many calls take.
"""

from __future__ import annotations

from collections import deque
from dataclasses import field, replace
from itertools import repeat, starmap
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from dataclasses import dataclass
else:
    import dataclasses
    from dataclasses import MISSING, Field, FrozenInstanceError
    from inspect import get_annotations  # which `dataclasses` has imported anyway
    from operator import attrgetter

    def dataclass(*, frozen: bool, slots: bool):
        """Make frozen values of a class, as `dataclasses.dataclass(frozen=True, slots=True)` does.

        Raises:
            TypeError: another form is asked for, or the class inherits fields.
        """
        if not (frozen and slots):
            raise TypeError("only frozen dataclasses with slots are made here")
        return _make

    def _make(cls: type) -> type:
        if any(hasattr(base, "__dataclass_fields__") for base in cls.__bases__):
            raise TypeError(f"{cls.__name__} inherits fields")
        fields = {
            name: _field(cls, name, kind)
            for name, kind in get_annotations(cls).items()
            if not kind.startswith(("ClassVar", "typing.ClassVar"))
        }
        body = {
            name: value
            for name, value in cls.__dict__.items()
            if name not in fields and name not in {"__dict__", "__weakref__"}
        }
        for name, method in _SHARED.items():
            body.setdefault(name, method)
        body["__slots__"] = body["__match_args__"] = tuple(fields)
        body["__dataclass_fields__"] = fields
        # With the class in front it is a tuple whatever the number of fields, and compares as the library's does.
        body["_compared"] = attrgetter("__class__", *(name for name, one in fields.items() if one.compare))
        made = type(cls)(cls.__name__, cls.__bases__, body)
        made.__qualname__ = cls.__qualname__
        made.__init__ = _init(made, fields)
        return made

    def _field(cls: type, name: str, kind: str) -> Field:
        default = cls.__dict__.get(name, MISSING)
        one = default if isinstance(default, Field) else field(default=default)
        one.name, one.type = name, kind
        one._field_type = dataclasses._FIELD  # noqa: SLF001  # what `dataclasses.replace` and `asdict` look for
        return one

    def _init(cls: type, fields: dict[str, Field]) -> object:
        """Compile the one method whose signature differs from class to class."""
        names: dict[str, object] = {"_missing": MISSING}
        parameters, lines = ["self"], []
        for name, one in fields.items():
            names[f"_set_{name}"] = cls.__dict__[name].__set__
            value = name
            if one.default_factory is not MISSING:
                names[f"_new_{name}"] = one.default_factory
                value = f"_new_{name}() if {name} is _missing else {name}"
                parameters.append(f"{name}=_missing")
            elif one.default is not MISSING:
                names[f"_default_{name}"] = one.default
                parameters.append(f"{name}=_default_{name}")
            else:
                parameters.append(name)
            lines.append(f" _set_{name}(self, {value})")
        if hasattr(cls, "__post_init__"):
            lines.append(" self.__post_init__()")
        exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines or [" pass"]), names)  # noqa: S102
        init = names["__init__"]
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        return init

    def _repr(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name, one in self.__dataclass_fields__.items() if one.repr)
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def _equal(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return self._compared(self) == self._compared(other)

    def _hash(self) -> int:
        return hash(self._compared(self))

    def _refuse_set(self, name: str, value: object) -> None:  # noqa: ARG001
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_delete(self, name: str) -> None:  # noqa: ARG001
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _state(self) -> list[object]:
        return [getattr(self, name) for name in self.__slots__]

    def _restore(self, state: list[object]) -> None:
        for name, value in zip(self.__slots__, state, strict=True):
            object.__setattr__(self, name, value)

    _SHARED = {
        "__repr__": _repr,
        "__eq__": _equal,
        "__hash__": _hash,
        "__setattr__": _refuse_set,
        "__delattr__": _refuse_delete,
        "__getstate__": _state,
        "__setstate__": _restore,
    }

Value = TypeVar("Value")


def from_columns(cls: type[Value], first: Sequence[object], *others: Iterable[object]) -> list[Value]:
    """Make many values whose fields are given column by column, as `map(cls, first, *others)` would.

    Args:
        cls: made by `dataclass`, without a `__post_init__`, which would not be called.
        first: what the first field of each value is.
        others: the same for every other field.

    Raises:
        TypeError: the class checks its values, or there are more or fewer columns than fields.
        ValueError: a column is shorter or longer than the first.
    """
    names: tuple[str, ...] = vars(cls)["__slots__"]
    if hasattr(cls, "__post_init__") or len(names) != 1 + len(others):
        raise TypeError(f"{cls.__name__} cannot be made from {1 + len(others)} columns")
    made = list(map(object.__new__, repeat(cls, len(first))))
    for name, column in zip(names, (first, *others), strict=True):
        deque(starmap(vars(cls)[name].__set__, zip(made, column, strict=True)), maxlen=0)
    return made


__all__ = ["dataclass", "field", "from_columns", "replace"]
