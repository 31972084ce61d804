"""Who belongs to the cluster, who is expected, who leaves, and where replicas shall be.

The tables of the catalog and the rules by which commands change them; the rows, the log and the
queries are ``catalog.py``. A node comes and goes in steps, each of them one command:

*   **expected**: an operator said that a node of this name may join (``add``, ``replace``).
*   **member**: it said hello with an identity of its own (``join``). It gets its *seats*: in every
    group, or, if it replaces somebody, where that one had them.
*   **leaving**: an operator removed or replaced it. Its seats outside the catalog go at once; the
    leaders of the groups then change their members (``reconcile.py``) and report what they are.
    When no group but the catalog names it any more, its seat in the catalog goes as well, so that
    a node has a catalog as long as it has data.
*   **removed**: no group names it. Its identity never comes back.

Invariants: names of those who stay are unique, so are the identities; every seat is a member's;
every group has a seat that votes; a report is replaced by one of a higher index only.

Left out: which node should hold which partition. A new member gets a seat in every group.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from kvorum_proto.command_pb2 import (
    AddMember,
    ExpectedMember,
    GroupReport,
    JoinMember,
    MemberInfo,
    Placement,
    RecoverCluster,
    ReplaceMember,
    Seat,
)
from kvorum_proto.peer_pb2 import Bootstrap
from kvorum_server.placement.bootstrap import CATALOG_VOTERS_MAX, initial_configurations
from kvorum_server.types import CATALOG_GROUP, GroupId, NodeId

INITIAL_LEVEL = 1
"""What every program that can read a birth certificate supports."""

MEMBERS_MAX = 64
VOTERS_MAX = 7
"""More voters make every write slower and the cluster hardly safer."""


class Refusal(Exception):
    """A command that would change nothing or break something; the text names the remedy."""


@dataclass(slots=True)
class Roster:
    """The tables. Methods change them or raise Refusal and leave them as they were."""

    members: dict[NodeId, MemberInfo] = field(default_factory=dict)
    expected: dict[str, ExpectedMember] = field(default_factory=dict)
    removed: dict[NodeId, MemberInfo] = field(default_factory=dict)
    placements: dict[GroupId, Placement] = field(default_factory=dict)
    reports: dict[GroupId, GroupReport] = field(default_factory=dict)

    @classmethod
    def of_birth(cls, bootstrap: Bootstrap) -> "Roster":
        """The tables as the birth certificate of the cluster has them."""
        roster = cls()
        for initial in bootstrap.members:
            roster.members[initial.identity] = MemberInfo(
                identity=initial.identity,
                name=initial.name,
                address=initial.address,
                supported_level=INITIAL_LEVEL,
            )
        for group, configuration in initial_configurations(bootstrap).items():
            seats = [
                Seat(identity=member.identity, voter=member.replica in configuration.voters)
                for member in configuration.members
            ]
            roster.placements[group] = Placement(group=group, seats=seats)
        return roster

    # --- Looking ---

    def named(self, name: str) -> MemberInfo | None:
        """The member of a name; of two, the one that stays."""
        found = [member for member in self.members.values() if member.name == name]
        return min(found, key=lambda member: member.leaving_since, default=None)

    def _known(self, name: str) -> MemberInfo:
        member = self.named(name)
        if member is None:
            names = ", ".join(sorted({member.name for member in self.members.values()}))
            raise Refusal(f"no member is named {name!r}; the members are {names}")
        return member

    def _staying(self) -> Iterator[MemberInfo]:
        return (member for member in self.members.values() if not member.leaving_since)

    # --- Commands ---

    def add(self, command: AddMember) -> None:
        """A node of this name may join."""
        member = self.named(command.name)
        if member is not None and not member.leaving_since:
            raise Refusal(f"{command.name} is a member already, at {member.address}")
        self._check_address(command.address, command.name)
        others = [expected for name, expected in self.expected.items() if name != command.name]
        if len(self.members) + len(others) >= MEMBERS_MAX:
            raise Refusal(f"a cluster has at most {MEMBERS_MAX} members; remove one first")
        if not command.learner:
            self._check_voters([expected for expected in others if not expected.replaces])
        self.expected[command.name] = ExpectedMember(
            name=command.name, address=command.address, learner=command.learner
        )

    def _check_voters(self, expected: Iterable[ExpectedMember]) -> None:
        voters = sum(not member.learner for member in self._staying())
        voters += sum(not one.learner for one in expected)
        if voters >= VOTERS_MAX:
            raise Refusal(
                f"a group has at most {VOTERS_MAX} voters, and there are {voters}; "
                "add it as a learner"
            )

    def _check_address(self, address: str, name: str) -> None:
        for member in self._staying():
            if member.address == address and member.name != name:
                raise Refusal(f"{address} is the address of {member.name}; give it one of its own")
        for expected in self.expected.values():
            if expected.address == address and expected.name != name:
                raise Refusal(f"{address} is where {expected.name} is expected")

    def replace(self, command: ReplaceMember) -> None:
        """A node of the new name may join and take the places of an old one."""
        old = self._known(command.name)
        if old.leaving_since:
            raise Refusal(f"{command.name} is leaving already; add {command.new_name} instead")
        other = self.named(command.new_name)
        if other is not None and other.identity != old.identity and not other.leaving_since:
            raise Refusal(f"{command.new_name} is a member already; choose another name")
        if command.address != old.address:
            self._check_address(command.address, command.new_name)
        self.expected[command.new_name] = ExpectedMember(
            name=command.new_name,
            address=command.address,
            learner=old.learner,
            replaces=old.identity,
        )

    def join(self, command: JoinMember, version: int) -> None:
        """A node that was expected has come: it is a member from now on."""
        if command.identity in self.members:
            return
        if command.identity in self.removed:
            raise Refusal(f"{command.name} was removed; its identity never comes back")
        expected = self.expected.get(command.name)
        if expected is None:
            raise Refusal(f"no node named {command.name} is expected")
        old = self.members.get(expected.replaces)
        if old is not None and old.leaving_since:
            old = None
        del self.expected[command.name]
        self.members[command.identity] = MemberInfo(
            identity=command.identity,
            name=command.name,
            address=expected.address,
            supported_level=command.supported_level,
            learner=expected.learner,
        )
        for placement in self.placements.values():
            self._seat(placement, command.identity, expected, old, version)
        if old is not None:
            self._send_away(old, version)

    def _seat(
        self,
        placement: Placement,
        identity: NodeId,
        expected: ExpectedMember,
        old: MemberInfo | None,
        version: int,
    ) -> None:
        """A seat for a newcomer: in every group, or where the one whom it replaces has one."""
        seats = {seat.identity: seat for seat in placement.seats}
        voter = not expected.learner
        replaces = 0
        if old is not None:
            if old.identity not in seats:
                return
            voter = seats[old.identity].voter
            replaces = old.identity
        elif placement.group == CATALOG_GROUP:
            voters = sum(1 for seat in placement.seats if seat.voter)
            voter = voter and voters < CATALOG_VOTERS_MAX
        placement.seats.append(Seat(identity=identity, voter=voter, replaces=replaces))
        placement.version = version

    def promote(self, name: str, version: int) -> None:
        """A learner shall vote."""
        expected = self.expected.get(name)
        if expected is not None and self.named(name) is None:
            raise Refusal(f"{name} has not joined yet; start it first")
        member = self._known(name)
        if member.leaving_since:
            raise Refusal(f"{name} is leaving; it cannot be promoted")
        if not member.learner:
            return
        self._check_voters(())
        member.learner = False
        for placement in self.placements.values():
            if placement.group == CATALOG_GROUP:
                self._fill_catalog(version)
                continue
            for seat in placement.seats:
                if seat.identity == member.identity and not seat.voter:
                    seat.voter = True
                    placement.version = version

    def remove(self, name: str, version: int) -> None:
        """A member leaves; one that has not joined is not expected any more."""
        if name in self.expected and self.named(name) is None:
            del self.expected[name]
            return
        member = self._known(name)
        if member.leaving_since:
            return
        for placement in self.placements.values():
            voters = [seat.identity for seat in placement.seats if seat.voter]
            if voters == [member.identity]:
                raise Refusal(
                    f"{name} is the only voter of group {placement.group}; add another member first"
                )
        self.expected.pop(name, None)
        self._send_away(member, version)

    def _send_away(self, member: MemberInfo, version: int) -> None:
        """Its seats outside the catalog go at once; the one in the catalog goes last."""
        member.leaving_since = version
        for expected in self.expected.values():
            if expected.replaces == member.identity:
                expected.replaces = 0
        for placement in self.placements.values():
            if placement.group != CATALOG_GROUP:
                _unseat(placement, member.identity, version)
        self._let_go(member, version)

    def report(self, report: GroupReport, version: int) -> None:
        """What the members of a group are now; whoever leaves may have come a step further."""
        known = self.reports.get(report.group)
        if report.group not in self.placements:
            raise Refusal(f"there is no group {report.group}")
        if known is not None and report.index <= known.index:
            return
        self.reports[report.group] = report
        for member in list(self.members.values()):
            if member.leaving_since:
                self._let_go(member, version)

    def recover(self, command: RecoverCluster, version: int) -> None:
        """A majority was lost for ever: one member is left, with the groups that it holds."""
        survivor = MemberInfo()
        survivor.CopyFrom(command.survivor)
        self.removed.update(self.members)
        self.removed.pop(survivor.identity, None)
        self.members = {survivor.identity: survivor}
        self.expected = {}
        seat = Seat(identity=survivor.identity, voter=True)
        self.placements = {
            group: Placement(group=group, version=version, seats=[seat]) for group in command.groups
        }
        self.reports = {}

    def _let_go(self, member: MemberInfo, version: int) -> None:
        """First all groups but the catalog, then the catalog, then the cluster."""
        groups = [group for group in self.placements if group != CATALOG_GROUP]
        if not all(self._is_free_of(group, member) for group in groups):
            return
        catalog = self.placements[CATALOG_GROUP]
        if any(seat.identity == member.identity for seat in catalog.seats):
            _unseat(catalog, member.identity, version)
            self._fill_catalog(version)
            member.leaving_since = version
        elif self._is_free_of(CATALOG_GROUP, member):
            del self.members[member.identity]
            self.removed[member.identity] = member

    def _is_free_of(self, group: GroupId, member: MemberInfo) -> bool:
        report = self.reports.get(group)
        return (
            report is not None
            and report.version >= min(member.leaving_since, self.placements[group].version)
            and member.identity not in report.voters
            and member.identity not in report.learners
        )

    def _fill_catalog(self, version: int) -> None:
        """Up to five members vote in the catalog: no learners, the oldest seats first."""
        catalog = self.placements[CATALOG_GROUP]
        room = CATALOG_VOTERS_MAX - sum(1 for seat in catalog.seats if seat.voter)
        for seat in catalog.seats:
            member = self.members[seat.identity]
            if room > 0 and not seat.voter and not member.learner and not member.leaving_since:
                seat.voter = True
                catalog.version = version
                room -= 1

    # --- Invariants ---

    def check_invariants(self) -> None:
        """Raises AssertionError when the tables contradict each other."""
        names = [member.name for member in self._staying()]
        assert len(set(names)) == len(names), "names are unique"
        assert not set(self.members) & set(self.removed), "who was removed never comes back"
        for placement in self.placements.values():
            identities = [seat.identity for seat in placement.seats]
            assert len(set(identities)) == len(identities), "one seat a node"
            assert set(identities) <= set(self.members), "seats are members'"
            assert any(seat.voter for seat in placement.seats), "every group has voters"


def _unseat(placement: Placement, identity: NodeId, version: int) -> None:
    """Takes a seat away; who was to replace it no longer waits."""
    seats = [seat for seat in placement.seats if seat.identity != identity]
    if len(seats) < len(placement.seats):
        del placement.seats[:]
        placement.seats.extend(seats)
        placement.version = version
