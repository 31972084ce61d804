"""What ``kvorum verify`` shows of the findings, and how it ends."""

import json

import pytest

from kvorum import StateComparison
from kvorum_cli.exits import Exit, Stop
from kvorum_cli.main import run
from kvorum_cli.verify import tell

EQUAL = StateComparison(0, "n1", False, "entry 9: equal (4c1f7f0c93ad0d52)")
DIFFERENT = StateComparison(1, "n2", True, "entry 7: the state of replica 3 is not that of ...")


def test_equal_states_are_one_line_a_group(capsys: pytest.CaptureFixture[str]) -> None:
    tell([EQUAL], as_json=False)
    assert capsys.readouterr().out == "group 0: entry 9: equal (4c1f7f0c93ad0d52)\n"


def test_a_difference_is_shown_and_ends_with_a_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(Stop, match="replicas differ in group 1") as stop:
        tell([EQUAL, DIFFERENT], as_json=True)
    assert stop.value.code is Exit.CONFLICT
    assert json.loads(capsys.readouterr().out)["groups"][1] == {
        "group": 1,
        "leader": "n2",
        "differs": True,
        "finding": "entry 7: the state of replica 3 is not that of ...",
    }


def test_without_a_cluster_there_is_nothing_to_compare(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", "--endpoints", "127.0.0.1:1", "--timeout", "0.2"]
    assert run(arguments) == Exit.UNAVAILABLE
    assert capsys.readouterr().err.count("\n") == 1
