"""Whole clusters under faults: fixed seeds, seeds that once failed, and the promises of runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator.__main__ import main
from tests.simulator.simulation import run_seed

FIXED_SEEDS = range(1, 51)
SEEDS_FILE = Path(__file__).with_name("seeds.txt")


def seeds_that_once_failed() -> list[int]:
    """The numbers at the beginnings of the lines of ``seeds.txt``."""
    lines = SEEDS_FILE.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("seed", FIXED_SEEDS)
def test_no_promise_is_broken(seed: int) -> None:
    report = run_seed(seed)
    assert not report.failure, f"{report.details}\nreplay: python -m tests.simulator --seed {seed}"


@pytest.mark.parametrize("seed", seeds_that_once_failed())
def test_what_once_failed_passes(seed: int) -> None:
    report = run_seed(seed)
    assert not report.failure, f"{report.details}\nreplay: python -m tests.simulator --seed {seed}"


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
