"""What nodes say of themselves, as a table.

``kvorum up`` and ``kvorum status`` show the same columns, so that one learns to read them once. A
row is a :class:`NodeView`: what a node answered, or, when it did not, why. With one partition the
numbers are those of its group; with several, ROLE says how many groups the node leads, COMMIT and
APPLIED are sums, TERM and LAG maxima. The catalog (group 0) counts for the state of a node only.

On a terminal tables are coloured and cut to its width; elsewhere they are plain and as wide as they
need to be, so that ``grep`` and ``awk`` find whole lines.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from kvorum import ClusterStatus, GroupStatus, Membership, NodeStatus

CATALOG_GROUP = 0
HEALTHY = "healthy"
CATCHING_UP_LAG = 1000
"""A follower this many entries behind would need a while to lead."""
PLAIN_WIDTH = 1000
_STYLES = {
    HEALTHY: "green",
    "starting": "yellow",
    "catching up": "yellow",
    "leaving": "yellow",
    "expected": "yellow",
}
_SIZES = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as somebody outside sees it; ``problem`` says why there is no status."""

    name: str
    address: str
    status: NodeStatus | None = None
    problem: str = ""

    @property
    def state(self) -> str:
        """One word or line for the column STATE."""
        if self.status is None:
            return self.problem or "unreachable"
        if self.status.alarms:
            return "; ".join(self.status.alarms)
        if not self.status.groups or any(not group.leader for group in self.status.groups):
            return "no leader"
        if any(group.lag > CATCHING_UP_LAG for group in self.status.groups):
            return "catching up"
        return HEALTHY

    @property
    def groups(self) -> tuple[GroupStatus, ...]:
        """The partitions that the node serves: every group but the catalog."""
        if self.status is None:
            return ()
        return tuple(group for group in self.status.groups if group.group != CATALOG_GROUP)

    @property
    def role(self) -> str:
        """leader, follower, ...; with several groups how many of them the node leads."""
        roles = [group.role for group in self.groups]
        if len(roles) > 1:
            return f"leads {roles.count('leader')} of {len(roles)}"
        return roles[0] if roles else "-"

    @property
    def term(self) -> int:
        """The highest term of its groups."""
        return max((group.term for group in self.groups), default=0)


def human_size(size_bytes: int) -> str:
    """A size with its unit, in powers of 1000.

    >>> human_size(999), human_size(1_200_000), human_size(25_000_000_000)
    ('999 B', '1.2 MB', '25.0 GB')
    """
    size = float(size_bytes)
    for unit in _SIZES:
        if size < 1000 or unit == _SIZES[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def short_cluster_id(cluster_id: bytes) -> str:
    """Enough of a cluster id to tell clusters apart at a glance.

    >>> short_cluster_id(bytes.fromhex("c1f3000000000000000000000000009a"))
    'c1f3…9a'
    """
    text = cluster_id.hex()
    return f"{text[:4]}…{text[-2:]}" if len(text) > 8 else text or "?"


def headline(status: NodeStatus, *places: str) -> str:
    """What all nodes of a cluster share, in one line; ``places`` come last."""
    partitions = sum(group.group != CATALOG_GROUP for group in status.groups)
    plural = "" if partitions == 1 else "s"
    parts = (
        f"kvorum {status.version}",
        f"cluster {short_cluster_id(status.cluster_id)}",
        status.protocol,
        f"{partitions} partition{plural}",
        *places,
    )
    return " · ".join(parts)


def node_row(view: NodeView) -> tuple[str, ...]:
    """The cells of one row, in the order of the columns."""
    groups = view.groups
    lags = [group.lag for group in groups if group.role != "leader"]
    return (
        view.name or "-",
        view.address,
        view.role,
        str(view.term) if groups else "-",
        str(sum(group.commit for group in groups)) if groups else "-",
        str(sum(group.applied for group in groups)) if groups else "-",
        str(max(lags)) if lags else "-",
        human_size(view.status.disk_bytes) if view.status else "-",
        view.state,
    )


def node_table(views: Iterable[NodeView]) -> Table:
    """NODE ADDRESS ROLE TERM COMMIT APPLIED LAG DISK STATE."""
    table = _table(
        "NODE", "ADDRESS", "ROLE", ">TERM", ">COMMIT", ">APPLIED", ">LAG", ">DISK", "STATE"
    )
    for view in views:
        row = node_row(view)
        table.add_row(*row[:-1], _styled(row[-1]))
    return table


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member, or a node that is expected, as ``kvorum member list`` shows it."""

    name: str
    address: str
    role: str
    state: str
    lag: int | None = None
    identity: str = ""
    supported_level: int | None = None
    replaces: str = ""


def member_views(membership: Membership, status: ClusterStatus) -> list[MemberView]:
    """Everybody whom the catalog knows, by name; those who are expected last."""
    nodes = {node.identity: node for node in status.nodes}
    views = []
    for member in membership.members:
        view = NodeView(member.name, member.address, nodes.get(member.identity))
        lags = [group.lag for group in view.groups if group.role != "leader"]
        views.append(
            MemberView(
                member.name,
                member.address,
                "learner" if member.learner else "voter",
                "leaving" if member.leaving else view.state,
                max(lags, default=None),
                f"{member.identity:016x}",
                member.supported_level,
            )
        )
    expected = [
        MemberView(
            one.name,
            one.address,
            "learner" if one.learner else "voter",
            f"expected, replaces {one.replaces}" if one.replaces else "expected",
            replaces=one.replaces,
        )
        for one in membership.expected
    ]
    return sorted(views, key=lambda view: view.name) + expected


def member_table(views: Iterable[MemberView]) -> Table:
    """NAME ADDRESS ROLE LAG IDENTITY STATE."""
    table = _table("NAME", "ADDRESS", "ROLE", ">LAG", "IDENTITY", "STATE")
    for view in views:
        lag = "-" if view.lag is None else str(view.lag)
        identity = view.identity or "-"
        table.add_row(view.name, view.address, view.role, lag, identity, _styled(view.state))
    return table


def group_row(group: GroupStatus) -> tuple[str, ...]:
    """The cells of one group, as the node that knows most of it sees it."""
    return (
        f"{group.group} (catalog)" if group.group == CATALOG_GROUP else str(group.group),
        group.leader or "none",
        str(group.term),
        str(group.revision),
        str(group.compacted_revision),
        str(group.commit),
        f"{group.log_first}-{group.log_last}" if group.log_first <= group.log_last else "-",
        str(group.sessions),
    )


def group_table(groups: Iterable[GroupStatus]) -> Table:
    """GROUP LEADER TERM REVISION COMPACTED COMMIT LOG SESSIONS."""
    table = _table(
        "GROUP", "LEADER", ">TERM", ">REVISION", ">COMPACTED", ">COMMIT", ">LOG",
        ">SESSIONS",
    )  # fmt: skip
    for group in groups:
        table.add_row(*group_row(group))
    return table


def known_groups(statuses: Sequence[NodeStatus]) -> list[GroupStatus]:
    """Each group once: as its leader sees it, else the replica with the highest (term, commit)."""
    best: dict[int, GroupStatus] = {}
    for status in statuses:
        for group in status.groups:
            present = best.get(group.group)
            if present is None or _authority(group) > _authority(present):
                best[group.group] = group
    return [best[number] for number in sorted(best)]


def _authority(group: GroupStatus) -> tuple[int, bool, int]:
    return group.term, group.role == "leader", group.commit


# --- Rendering ---


def console(color: bool | None) -> Console:
    """Where tables are printed: the terminal, or plain text of any width."""
    from rich.console import Console

    if not sys.stdout.isatty():
        return Console(
            width=PLAIN_WIDTH, force_terminal=color is True, no_color=not color, highlight=False
        )
    return Console(no_color=None if color is None else not color, highlight=False)


def print_renderables(target: Console, *parts: RenderableType) -> None:
    """Prints tables and lines; without the blanks that a table leaves at the ends of lines."""
    if target.is_terminal:
        target.print(*parts, sep="\n")
        return
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=PLAIN_WIDTH, highlight=False).print(*parts, sep="\n")
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        justify = "right" if column.startswith(">") else "left"
        last = column == columns[-1]
        table.add_column(
            column.removeprefix(">"),
            justify="right" if justify == "right" else "left",
            no_wrap=not last,
            overflow="ellipsis",
        )
    return table


def _styled(state: str) -> str:
    from rich.markup import escape

    style = _STYLES.get(state, "red")
    return f"[{style}]{escape(state)}[/]"
