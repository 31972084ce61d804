"""The public surface: complete, sorted, documented, and the same with and without ``await``."""

import inspect

import pytest

import kvorum
from kvorum import AsyncClient, Client
from kvorum._client import AsyncClient as DefinedAsyncClient
from kvorum._sync import Client as DefinedClient


def public_names(owner: type) -> set[str]:
    """The methods that a user may call."""
    return {name for name in vars(owner) if not name.startswith("_")}


def test_all_is_sorted_and_complete() -> None:
    names = [name for name in vars(kvorum) if not name.startswith("_")]
    assert sorted(set(kvorum.__all__) - {"__version__"}) == sorted(names)
    assert kvorum.__all__ == sorted(kvorum.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", kvorum.__all__)
def test_public_names_say_that_they_come_from_kvorum(name: str) -> None:
    value = getattr(kvorum, name)
    if inspect.isclass(value):
        assert value.__module__ == "kvorum"
        assert value.__doc__, f"{name} has no docstring"


def test_both_clients_offer_the_same() -> None:
    assert AsyncClient is DefinedAsyncClient
    assert Client is DefinedClient
    assert public_names(Client) == public_names(AsyncClient)


@pytest.mark.parametrize("name", sorted(public_names(AsyncClient)))
def test_both_clients_are_called_the_same_way(name: str) -> None:
    theirs, ours = getattr(AsyncClient, name), getattr(Client, name)
    if name != "close":
        assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters
    assert not inspect.iscoroutinefunction(ours)
    assert ours.__doc__


@pytest.mark.parametrize("name", sorted(public_names(AsyncClient)))
def test_options_are_named(name: str) -> None:
    for parameter in inspect.signature(getattr(AsyncClient, name)).parameters.values():
        if parameter.name in {"timeout", "previous", "revision", "limit", "prefix", "atomic"}:
            assert parameter.kind is parameter.KEYWORD_ONLY or name == "compact"
