"""Changing who belongs to the cluster: methods of AsyncClient, which stand here for their length.

An operator says what shall be; the cluster gets there by itself, one small and safe step after the
other (joint consensus; a newcomer votes only when it has caught up). So these calls return when the
catalog has noted the wish, and :func:`membership` tells how far it has come: ``settled`` is true
once every group has the members that it shall have. All of them are idempotent: after
UnknownOutcome simply ask again.

They need no session. The commands change tables of the catalog, and the same wish twice is one.
"""

from typing import TYPE_CHECKING

from kvorum import _cluster
from kvorum._endpoints import parse_endpoints
from kvorum._errors import InvalidRequest
from kvorum._results import DONE, MEMBERS, MEMBERSHIP, Decoder, T_co
from kvorum._routing import CATALOG_GROUP
from kvorum._types import Member, Membership
from kvorum_proto.command_pb2 import CommandBatch, Query, Submission

if TYPE_CHECKING:
    from kvorum._client import AsyncClient


async def members(self: "AsyncClient", *, timeout: float | None = None) -> tuple[Member, ...]:
    """The nodes of the cluster, as its catalog knows them; those that are leaving included."""
    return await _ask(self, MEMBERS, timeout)


async def membership(self: "AsyncClient", *, timeout: float | None = None) -> Membership:
    """The nodes of the cluster, those that are expected, and how far its groups have followed."""
    return await _ask(self, MEMBERSHIP, timeout)


async def add_member(
    self: "AsyncClient",
    name: str,
    address: str,
    *,
    learner: bool = False,
    timeout: float | None = None,
) -> None:
    """A node of this name, reached at ``host:port``, may join: start it with ``--join`` then.

    A *learner* receives everything and does not vote until :meth:`promote_member`. Raises
    InvalidRequest with the reason when the cluster refuses: the name or address is taken, or there
    would be too many voters.
    """
    (address,) = _one_address(address)
    submission = Submission()
    submission.add_member.name = name
    submission.add_member.address = address
    submission.add_member.learner = learner
    await _change(self, submission, timeout)


async def replace_member(
    self: "AsyncClient",
    name: str,
    *,
    new_name: str = "",
    address: str = "",
    timeout: float | None = None,
) -> None:
    """A new node takes the places of a member, which leaves when the new one has caught up.

    Without ``new_name`` and ``address`` the new node has those of the old one: a machine that lost
    its disk and comes back empty. Start it with ``--join``. Raises InvalidRequest with the reason
    when the cluster refuses.
    """
    if not address:
        present = {member.name: member for member in await members(self, timeout=timeout)}
        if name not in present:
            known = ", ".join(sorted(present))
            raise InvalidRequest(f"no member is named {name!r}; the members are {known}")
        address = present[name].address
    (address,) = _one_address(address)
    submission = Submission()
    submission.replace_member.name = name
    submission.replace_member.new_name = new_name or name
    submission.replace_member.address = address
    await _change(self, submission, timeout)


async def promote_member(self: "AsyncClient", name: str, *, timeout: float | None = None) -> None:
    """A learner shall vote. Raises InvalidRequest when nobody has that name, or too many vote."""
    submission = Submission()
    submission.promote_member.name = name
    await _change(self, submission, timeout)


async def remove_member(self: "AsyncClient", name: str, *, timeout: float | None = None) -> None:
    """A member leaves, or a node is expected no more.

    Raises InvalidRequest with the reason when a group could not do without it now. The identity
    of a removed node never comes back: its data directory is of no use to this cluster any more.
    """
    submission = Submission()
    submission.remove_member.name = name
    await _change(self, submission, timeout)


async def transfer_leadership(
    self: "AsyncClient", group: int, target: str = "", *, timeout: float | None = None
) -> None:
    """Asks the leader of a group to hand over to the node of that name (default: the best one).

    Returns when the leader has been told; look at :meth:`cluster_status` for the outcome.
    """
    self._caller.pump()
    addresses = self._caller.dispatcher.addresses()
    await _cluster.transfer_leadership(addresses, group, target, timeout or self._caller.timeout)


async def _ask(client: "AsyncClient", decoder: Decoder[T_co], timeout: float | None) -> T_co:
    caller = client._caller
    await caller.table("members", timeout)
    query = Query()
    query.members.SetInParent()
    route = caller.dispatcher.route(CATALOG_GROUP)
    return await caller.query(route, query, decoder, timeout)


async def _change(client: "AsyncClient", submission: Submission, timeout: float | None) -> None:
    caller = client._caller
    await caller.table("members", timeout)
    batch = CommandBatch(submissions=[submission])
    route = caller.dispatcher.route(CATALOG_GROUP)
    await caller.finish(caller.start_idempotent(route, batch, DONE, timeout))


def _one_address(text: str) -> tuple[str, ...]:
    addresses = parse_endpoints(text)
    if len(addresses) != 1:
        raise InvalidRequest(f"{text!r} names {len(addresses)} addresses; a member has one")
    return addresses
