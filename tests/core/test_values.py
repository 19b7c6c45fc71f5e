"""Our cheap dataclasses behave like those of the standard library, and so does every value made with them."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest

from wcp_attest import values


def make(dataclass: Any) -> Any:
    @dataclass(frozen=True, slots=True)
    class Sample:
        """Something of each kind."""

        constant: ClassVar[int] = 7
        first: int
        second: str = "b"
        hidden: bytes = dataclasses.field(default=b"x", repr=False)
        ignored: int = dataclasses.field(default=0, compare=False)
        many: list[int] = dataclasses.field(default_factory=list)

        def __post_init__(self) -> None:
            if self.first < 0:
                raise ValueError("negative")

        @property
        def double(self) -> int:
            return self.first * 2

    return Sample


OURS, THEIRS = make(values.dataclass), make(dataclasses.dataclass)


@pytest.mark.parametrize("cls", [OURS, THEIRS], ids=["ours", "theirs"])
def test_a_value_of_either_kind_behaves_the_same(cls: Any) -> None:
    one = cls(1, many=[3])
    assert repr(one) == "make.<locals>.Sample(first=1, second='b', ignored=0, many=[3])"
    assert one == cls(1, "b", b"x", 9, [3])
    assert one != cls(2, many=[3])
    assert one != (1, "b", b"x", 0, [3])
    assert cls(1).many is not cls(1).many
    assert (one.double, cls.constant) == (2, 7)
    assert cls.__match_args__ == ("first", "second", "hidden", "ignored", "many")
    assert dataclasses.replace(one, second="c") == cls(1, "c", many=[3])
    assert dataclasses.asdict(one) == {"first": 1, "second": "b", "hidden": b"x", "ignored": 0, "many": [3]}
    assert [field.name for field in dataclasses.fields(one)] == list(cls.__match_args__)
    assert bool(dataclasses.is_dataclass(cls))
    assert copy.copy(one) == one
    with pytest.raises(ValueError, match="negative"):
        cls(-1)
    with pytest.raises(TypeError):
        cls()
    with pytest.raises(TypeError):
        cls(1, unknown=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.first = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.first
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        one.other = 2
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(one)


@pytest.mark.parametrize("dataclass", [values.dataclass, dataclasses.dataclass], ids=["ours", "theirs"])
def test_values_of_one_field_and_of_none_compare_as_the_others_do(dataclass: Any) -> None:
    @dataclass(frozen=True, slots=True)
    class One:
        number: float

    @dataclass(frozen=True, slots=True)
    class Other:
        number: float

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    assert One(1.0) == One(1)  # of what is not equal to itself, Python 3.13 thinks otherwise than those before
    assert One(1.0) != Other(1.0)  # type: ignore[comparison-overlap]
    assert {One(1.0), One(1.0), One(2.0)} == {One(1.0), One(2.0)}
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())


def test_our_values_hash_by_what_is_compared_and_can_be_pickled() -> None:
    from wcp_attest.entries import File
    from wcp_attest.signing import SignedBy

    by = SignedBy(identity="a", issuer="b", repository="c")
    assert hash(by) == hash(SignedBy(identity="a", issuer="b", repository="d"))
    assert len({by, SignedBy(identity="a", issuer="b"), SignedBy(key_id="x")}) == 2
    file = File("0" * 64, 3, executable=True)
    assert pickle.loads(pickle.dumps(file)) == file
    assert not hasattr(file, "__dict__")


def test_values_made_from_columns_are_those_made_one_by_one() -> None:
    from wcp_attest.entries import EmptyDirectory, File

    digests, sizes, modes = ["0" * 64, "1" * 64], [3, 4], [True, False]
    made = values.from_columns(File, digests, iter(sizes), modes)
    assert made == list(map(File, digests, sizes, modes))
    assert made[0] != made[1]
    assert values.from_columns(File, [], [], []) == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        made[0].size = 5  # type: ignore[misc]
    for short in ([3], [3, 4, 5]):
        with pytest.raises(ValueError, match="zip"):
            values.from_columns(File, digests, short, modes)
    with pytest.raises(TypeError, match="cannot be made from 2 columns"):
        values.from_columns(File, digests, sizes)
    with pytest.raises(TypeError, match="cannot be made from 1 columns"):
        values.from_columns(EmptyDirectory, digests)
    with pytest.raises(TypeError, match="cannot be made"):  # it checks what it is given
        values.from_columns(OURS, [1], ["b"], [b"x"], [0], [[]])


def test_only_the_one_form_is_made() -> None:
    with pytest.raises(TypeError):
        values.dataclass(frozen=False, slots=True)
    with pytest.raises(TypeError, match="inherits fields"):
        values.dataclass(frozen=True, slots=True)(type("Child", (OURS,), {}))
