"""Changing the members with the client library: what is refused before anything is sent."""

import asyncio

import pytest

from kvorum import AsyncClient, InvalidRequest, Unavailable
from kvorum._members import add_member, remove_member

NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nowhere", "has no port"),
        ("", "endpoints are empty"),
        ("a:1,b:2", "names 2 addresses; a member has one"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, reason: str) -> None:
    async def story() -> None:
        async with AsyncClient(NOBODY) as kv:
            with pytest.raises(InvalidRequest, match=reason):
                await kv.add_member("n4", address)

    asyncio.run(story())


def test_the_methods_of_the_client_are_those_of_the_module() -> None:
    assert AsyncClient.add_member is add_member
    assert AsyncClient.remove_member is remove_member


def test_without_a_cluster_nothing_is_changed_and_nothing_is_unknown() -> None:
    async def story() -> None:
        async with AsyncClient(NOBODY, timeout=0.05) as kv:
            for change in (
                kv.add_member("n4", "a:1"),
                kv.replace_member("n1"),
                kv.promote_member("n1"),
                kv.remove_member("n1"),
            ):
                with pytest.raises(Unavailable):
                    await change
            with pytest.raises(Unavailable):
                await kv.membership()

    asyncio.run(story())
