"""Every refusal of a node has its exception, and the tree is the one that its docstring draws."""

import inspect

import pytest

import kvorum
from kvorum import _errors
from kvorum._errors import Compacted, KvorumError, from_wire
from kvorum_proto import command_pb2 as wire

CODES = [value.number for value in wire.DESCRIPTOR.enum_types_by_name["ErrorCode"].values]
CLASSES = [
    value
    for value in vars(_errors).values()
    if inspect.isclass(value) and issubclass(value, KvorumError)
]


@pytest.mark.parametrize("code", CODES)
def test_every_error_code_has_an_exception(code: wire.ErrorCode) -> None:
    error = from_wire(wire.Error(code=code, message="what to do", oldest_revision=7))
    assert isinstance(error, KvorumError)
    assert str(error) == "what to do"
    if code != wire.UNSPECIFIED:
        assert type(error) is not KvorumError, "a code of its own deserves a class"


def test_a_code_from_the_future_is_still_our_error() -> None:
    error = from_wire(wire.Error(code=999))  # type: ignore[arg-type]
    assert type(error) is KvorumError
    assert "999" in str(error)


def test_compacted_says_what_is_left() -> None:
    error = from_wire(wire.Error(code=wire.COMPACTED, message="gone", oldest_revision=7))
    assert isinstance(error, Compacted)
    assert error.oldest_revision == 7


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_the_tree_is_drawn_as_it_is(error: type[KvorumError]) -> None:
    assert error.__name__ in kvorum.__all__, "what is raised can be caught by its public name"
    if error is KvorumError:
        return
    drawn = (_errors.__doc__ or "").splitlines()
    (line,) = [line for line in drawn if line.strip("│├└─ ").split(" ")[0] == error.__name__]
    depth = line.index(error.__name__) // 4 - 1
    assert depth == len([base for base in error.__mro__ if base in CLASSES]) - 1
