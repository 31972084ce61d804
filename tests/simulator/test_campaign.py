"""The campaign: what it counts, what it writes down, and that nothing of it stays behind."""

import json
from pathlib import Path

import pytest

from tests.simulator.campaign import main, parse_arguments, seeds_of
from tests.simulator.campaign_report import Facts, Totals, as_json, as_markdown
from tests.simulator.workers import Hunt, Outcome, run_one, workers


def outcome(seed: int, failure: str = "") -> Outcome:
    """A run of one virtual hour."""
    return Outcome(
        seed=seed,
        failure=failure,
        details="",
        operations=100,
        unknown=3,
        turns=50,
        frames=70,
        virtual_ms=3_600_000,
        undecided=False,
        facts={"crash": 2, "partition": 1},
        fingerprint="",
        seconds=1.0,
    )


def test_a_small_campaign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "campaign"
    arguments = ["--seeds", "4", "--jobs", "2", "--no-canaries", "--report", str(report)]
    assert main(arguments) == 0
    assert "4 seeds, 0 failed" in capsys.readouterr().out
    content = json.loads(report.with_suffix(".json").read_text())
    assert content["totals"]["seeds"] == 4
    assert content["run"]["jobs"] == 2
    assert "| seeds | 4 |" in report.with_suffix(".md").read_text()


def test_a_worker_gives_the_same_run_as_any_other_process() -> None:
    with workers(1) as pool:
        first, second = (pool.submit(run_one, 5).result() for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert not first.failure


def test_workers_are_gone_when_the_block_has_failed() -> None:
    def interrupted() -> None:
        with workers(1) as pool:
            futures = [pool.submit(run_one, seed) for seed in range(1, 100)]
            futures[0].result()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_hours_take_the_place_of_a_number_of_seeds() -> None:
    seeds, count = seeds_of(parse_arguments(["--hours", "1", "--first", "7"]))
    assert (next(seeds), next(seeds), count) == (7, 8, None)
    over, _ = seeds_of(parse_arguments(["--hours", "0"]))
    assert list(over) == []


def test_a_report_names_what_failed_and_what_went_unnoticed() -> None:
    totals = Totals()
    totals.add(outcome(1))
    totals.add(outcome(2, "Violation: election safety"))
    hunts = [
        Hunt("forget_the_vote", 3, 3, "Violation: a second vote", 1.5),
        Hunt("sync_nothing", None, 500, "", 300.0),
    ]
    facts = Facts("python -m tests.simulator.campaign", 2, 90.0)
    text = as_markdown(facts, totals, hunts)
    assert "| fault: crash | 4 |" in text
    assert "Seed 2: Violation: election safety" in text
    assert "| forget_the_vote | A restarted node does not know" in text
    assert "| not within 500 |" in text
    assert json.loads(as_json(facts, totals, hunts))["totals"]["failures"] == {
        "2": "Violation: election safety"
    }
