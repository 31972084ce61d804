"""Whole clusters under faults: fixed seeds, seeds that once failed, and the promises of runs."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from tests.simulator.__main__ import main
from tests.simulator.selection import selected
from tests.simulator.simulation import run_seed
from tests.simulator.workers import Outcome, run_one, usable_cores, workers

pytestmark = pytest.mark.timeout(600)

FIXED_SEEDS = range(1, 101)
SEEDS_FILE = Path(__file__).with_name("seeds.txt")


def seeds_that_once_failed() -> list[int]:
    """The numbers at the beginnings of the lines of ``seeds.txt``."""
    lines = SEEDS_FILE.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


SEEDS = sorted({*FIXED_SEEDS, *seeds_that_once_failed()})


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[int, Future[Outcome]]]:
    """The runs of all seeds that this session has selected, under way on all cores at once."""
    with workers(usable_cores()) as pool:
        yield {seed: pool.submit(run_one, seed) for seed in selected(request, "seed")}


@pytest.mark.parametrize("seed", SEEDS)
def test_no_promise_is_broken(seed: int, outcomes: dict[int, Future[Outcome]]) -> None:
    outcome = outcomes[seed].result()
    assert not outcome.failure, (
        f"{outcome.details}\nreplay: python -m tests.simulator --seed {seed} --trace"
    )


def test_a_seed_gives_the_same_run_twice() -> None:
    first, second = run_seed(11), run_seed(11)
    assert first.trace.lines == second.trace.lines
    assert first.trace.hash() == second.trace.hash()
    assert first.trace.hash() != run_seed(12).trace.hash()


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    """Not even the order of sets and of hashes may leak into a run."""

    def run(hash_seed: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulator", "--seed", "7"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()[0]

    assert "hash" in run("1")
    assert run("1") == run("2")


def test_the_timeline_tells_who_led_and_what_broke(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "7", "--trace"]) == 0
    timeline = capsys.readouterr().out
    assert "start, boot 1" in timeline
    assert "role=leader" in timeline
    assert "converged" in timeline
