"""Frozen dataclasses that are cheap to make.

The standard library's `__init__` of a frozen dataclass sets each field by name through `object.__setattr__`. With slots
the fields have descriptors, and setting through those takes half the time; a decision has forty fields.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TypeVar

T = TypeVar("T")


def quick(cls: type[T]) -> type[T]:
    """Give a `@dataclass(frozen=True, slots=True)` an `__init__` that sets its slots directly; all else stays.

    Raises:
        TypeError: the class has a `__post_init__`, which would not be called.
    """
    if hasattr(cls, "__post_init__"):
        raise TypeError(f"{cls.__name__} has a __post_init__")
    names: dict[str, object] = {"_missing": MISSING}
    parameters, lines = ["self"], []
    for one in fields(cls):  # type: ignore[arg-type]  # a dataclass, as the docstring says
        name, value = one.name, one.name
        names[f"_set_{name}"] = cls.__dict__[name].__set__
        if one.default_factory is not MISSING:
            names[f"_new_{name}"] = one.default_factory
            value = f"_new_{name}() if {name} is _missing else {name}"
            parameters.append(f"{name}=_missing")
        elif one.default is not MISSING:
            names[f"_default_{name}"] = one.default
            parameters.append(f"{name}=_default_{name}")
        else:
            parameters.append(name)
        lines.append(f"    _set_{name}(self, {value})")
    exec(f"def __init__({', '.join(parameters)}):\n" + "\n".join(lines), names)  # noqa: S102  # our own field names
    cls.__init__ = names["__init__"]  # type: ignore[assignment]
    return cls
