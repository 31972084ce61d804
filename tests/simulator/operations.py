"""An operator at work on the members of a cluster, while everything else goes wrong as well.

He adds machines, makes learners voters, removes members (one that leads, every other time),
replaces them under a new name until none of the first ones may be left, and replaces under the same
name a machine whose disk was lost. Each of these is a *task*: a command for the catalog and the
state of the roster at which it is done. He asks whoever leads the catalog, and asks again until it
is done, because an answer may be lost and commands are idempotent; what the cluster refuses for
good reasons he gives up in the end.

During the core phase he rests. When everything is repaired he finishes what he began, and replaces
whoever is lost, so that the cluster ends whole.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from kvorum_proto.command_pb2 import (
    AddMember,
    CommandBatch,
    MemberInfo,
    PromoteMember,
    RemoveMember,
    ReplaceMember,
    Submission,
)
from kvorum_server.events import Proposed
from kvorum_server.placement.roster import Roster
from kvorum_server.types import CATALOG_GROUP
from tests.simulator.cluster import Cluster
from tests.simulator.node import Node
from tests.simulator.rhythm import Rhythm
from tests.simulator.scheduler import MILLISECOND

ASK_AGAIN = 150 * MILLISECOND
PATIENCE = 20
"""So often a command is given before its task is given up, unless somebody is lost without it."""

CONNECTION = 1 << 30
"""The operator's: no client ever gets so far, so nobody takes his answers."""

VOTERS_MIN, VOTERS_MAX = 3, 6


@dataclass(slots=True)
class Task:
    """A command, and when what it asks for is there. ``must``: it is never given up."""

    name: str
    submission: Submission
    is_done: Callable[[Roster], bool]
    must: bool = False
    asked: int = 0


class Operator:
    """Changes the members of one cluster."""

    def __init__(self, cluster: Cluster, rhythm: Rhythm) -> None:
        self._cluster = cluster
        self._rhythm = rhythm
        self._generator: random.Random = rhythm.generator
        self._tasks: list[Task] = []
        self._machines = len(cluster.nodes)
        self._last_id = 0
        self._resting = False

    def start(self) -> None:
        """Begins to work, if the seed has an operator."""
        every = self._cluster.options.change_every
        if every:
            self._rhythm.every(every, self._begin_task)
            self._cluster.scheduler.after(ASK_AGAIN, self._work)

    def rest(self) -> None:
        """Gives no commands until ``finish``."""
        self._resting = True

    def finish(self) -> None:
        """Goes on, with what is under way and with the replacement of those who are lost."""
        self._resting = False

    def missing(self) -> str:
        """What is not done yet; empty when the operator is content."""
        if not self._cluster.options.change_every:
            return ""
        if self._tasks:
            return f"the operator waits for {[task.name for task in self._tasks]}"
        roster = self._cluster.roster()
        lost = [] if roster is None else self._lost(roster)
        return f"lost and not replaced: {[info.name for info in lost]}" if lost else ""

    # --- Looking ---

    def _staying(self, roster: Roster) -> list[MemberInfo]:
        return [info for _, info in sorted(roster.members.items()) if not info.leaving_since]

    def _lost(self, roster: Roster) -> list[MemberInfo]:
        nodes = self._cluster.node_of
        return [info for info in self._staying(roster) if nodes(info.identity).lost]

    # --- Working ---

    def _work(self) -> None:
        roster = self._cluster.roster()
        if roster is not None and not self._resting:
            self._replace_lost(roster)
            for task in list(self._tasks):
                if task.is_done(roster) or (task.asked >= PATIENCE and not task.must):
                    self._tasks.remove(task)
                else:
                    task.asked += 1
                    self.tell(task.submission)
        self._cluster.scheduler.after(ASK_AGAIN, self._work)

    def tell(self, submission: Submission) -> bool:
        """Gives a command to whoever leads the catalog; to anybody, if nobody seems to."""
        running = [node for node in self._cluster.members if node.host is not None]
        leading = [node for node in running if _leads_catalog(node)]
        if not running:
            return False
        self._last_id += 1
        commands = CommandBatch(submissions=[submission]).SerializeToString()
        node = self._generator.choice(leading or running)
        node.put(Proposed(CONNECTION, CATALOG_GROUP, (self._last_id,), commands))
        return bool(leading)

    def _add_task(self, task: Task) -> None:
        self._cluster.count(f"operator: {task.name.split()[0]}")
        self._cluster.trace.note("operator", task.name)
        self._tasks.append(task)

    def _replace_lost(self, roster: Roster) -> None:
        for info in self._lost(roster):
            if not any(task.must and task.name == f"replace {info.name}" for task in self._tasks):
                self._replace(info, info.name, must=True)

    # --- Tasks ---

    def _begin_task(self) -> None:
        roster = self._cluster.roster()
        if roster is None or self._tasks or self._resting:
            return
        staying = self._staying(roster)
        voters = [info for info in staying if not info.learner]
        learners = [info for info in staying if info.learner]
        kinds = ["replace"]
        if len(staying) < VOTERS_MAX:
            kinds += ["add", "add"]
        if len(voters) > VOTERS_MIN:
            kinds += ["remove", "remove"]
        if learners and len(voters) < VOTERS_MAX:
            kinds += ["promote", "promote"]
        match self._generator.choice(kinds):
            case "add":
                self._add(learner=self._rhythm.chance(0.3))
            case "remove":
                self._remove(self._victim(voters))
            case "promote":
                self._promote(self._generator.choice(learners))
            case _:
                self._replace(self._victim(staying), self._new_name())

    def _victim(self, members: list[MemberInfo]) -> MemberInfo:
        nodes = self._cluster.node_of
        leading = [one for one in members if (host := nodes(one.identity).host) and host.leads]
        return self._generator.choice(leading if leading and self._rhythm.chance(0.5) else members)

    def _new_name(self) -> str:
        self._machines += 1
        return f"n{self._machines}"

    def _newcomer(self, name: str) -> Node:
        """A machine with an empty disk that is told to join."""
        self._cluster.end_copies()  # It could not know them.
        node = self._cluster.add_node(name, self._cluster.new_identity())
        node.is_joining = True
        node.start()
        self._cluster.links_changed()
        return node

    def _add(self, *, learner: bool) -> None:
        node = self._newcomer(self._new_name())
        if not learner:
            self._cluster.coming.add(node.identity)
        command = AddMember(name=node.name, address=node.address, learner=learner)
        self._add_task(
            Task(
                f"add {node.name}",
                Submission(add_member=command),
                lambda roster: node.identity in roster.members or bool(node.lost),
            )
        )

    def _promote(self, info: MemberInfo) -> None:
        identity = info.identity
        if not self._cluster.may_vote(identity):
            return

        def is_done(roster: Roster) -> bool:
            member = roster.members.get(identity)
            return member is None or not member.learner or bool(member.leaving_since)

        command = PromoteMember(name=info.name)
        self._add_task(Task(f"promote {info.name}", Submission(promote_member=command), is_done))

    def _remove(self, info: MemberInfo) -> None:
        identity = info.identity
        if not self._cluster.may_leave(identity):
            return
        command = RemoveMember(name=info.name)
        self._add_task(
            Task(
                f"remove {info.name}",
                Submission(remove_member=command),
                lambda roster: identity not in roster.members,
            )
        )

    def _replace(self, info: MemberInfo, new_name: str, *, must: bool = False) -> None:
        node = self._newcomer(new_name)
        identity = info.identity
        command = ReplaceMember(name=info.name, new_name=new_name, address=node.address)

        def is_done(roster: Roster) -> bool:
            if node.lost or node.identity in roster.removed:
                return True  # It failed; whoever is still lost gets another one.
            if identity in roster.members:
                return False
            # Nobody expects the new one, if the old one had left before it could be replaced.
            return node.identity in roster.members or new_name not in roster.expected

        name = f"replace {info.name}"
        self._add_task(Task(name, Submission(replace_member=command), is_done, must))


def _leads_catalog(node: Node) -> bool:
    replica = None if node.host is None else node.host.replicas.get(CATALOG_GROUP)
    return replica is not None and replica.is_leader
