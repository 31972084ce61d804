"""The end of a run: everything that clients were told and replicas did, judged as a whole.

While a run goes on, ``checkers.py`` looks at the replicas. When it is over there is one committed
log and one history of all clients, and they must fit: the log replayed gives the figures and the
rows that the replicas have (``replay.py``), the clients were told what it says, in an order that
time allows, nothing twice and nothing that is not there (``witness.py``), and nobody was shown an
old state (``freshness.py``). When the log does not explain a history, the search for any order at
all (``linearizability.py``) is asked for a second, clearer opinion.
"""

from tests.simulator.checkers import Violation, require
from tests.simulator.client import KEY_GROUP
from tests.simulator.cluster import Cluster
from tests.simulator.freshness import check_freshness
from tests.simulator.linearizability import check_history
from tests.simulator.replay import replay
from tests.simulator.witness import judge


def judge_run(cluster: Cluster) -> None:
    """Raises Violation unless log, replicas and clients agree. For a cluster that has converged."""
    checkers, history = cluster.checkers, cluster.history
    applied = [
        node.host.replicas[KEY_GROUP].machine.status().applied_index
        for node in cluster.holders(KEY_GROUP)
        if node.host is not None
    ]
    require(bool(applied), "nobody holds a replica any more")
    # What was acknowledged must be everywhere; what some replica has not applied yet is too new.
    log = checkers.log(KEY_GROUP)[: min(applied)]
    check_freshness(history, clock_drift=cluster.options.clock_drift)
    replayed = replay(KEY_GROUP, cluster.options.config, log, checkers.states.get(KEY_GROUP, {}))
    try:
        judge(history, replayed)
    except Violation as violation:
        opinion = check_history(history).explanation
        raise Violation(f"{violation}\n{opinion}" if opinion else str(violation)) from None
