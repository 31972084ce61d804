"""Can the simulator fail? Clusters are broken on purpose, and it has to notice.

``canaries.py`` has the mistakes. Each must be noticed within a few seeds of its own profile; a
simulator that lets one of them live is blind in that eye, whatever else it reports. The control
comes first: under the same profiles the product as it is keeps every promise, so what is noticed
is the mistake and not the weather.
"""

from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor

import pytest

from tests.simulator.__main__ import main
from tests.simulator.canaries import CANARIES, SEEDS_MAX, Canary
from tests.simulator.profiles import PROFILES, Profile
from tests.simulator.selection import selected
from tests.simulator.workers import Hunt, Outcome, hunt, run_one, usable_cores, workers

CONTROL_SEEDS = (1, 2)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with workers(usable_cores()) as pool:
        yield pool


@pytest.fixture(scope="module")
def hunts(pool: ProcessPoolExecutor, request: pytest.FixtureRequest) -> dict[str, Future[Hunt]]:
    """All hunts that this session has selected, under way at once."""
    return {
        each.name: pool.submit(hunt, each.name, tuple(each.seeds()), each.profile.__name__)
        for each in selected(request, "broken")
    }


@pytest.fixture(scope="module")
def controls(
    pool: ProcessPoolExecutor, request: pytest.FixtureRequest
) -> dict[str, list[Future[Outcome]]]:
    """The runs of every selected profile, without a mistake."""
    names = [function.__name__ for function in selected(request, "weather")]
    return {name: [pool.submit(run_one, seed, name) for seed in CONTROL_SEEDS] for name in names}


@pytest.mark.parametrize("weather", PROFILES, ids=lambda weather: weather.__name__)
def test_the_weather_alone_breaks_nothing(
    weather: Profile, controls: dict[str, list[Future[Outcome]]]
) -> None:
    for future in controls[weather.__name__]:
        outcome = future.result()
        replay = f"python -m tests.simulator --profile {weather.__name__} --seed {outcome.seed}"
        assert not outcome.failure, f"{outcome.details}\nreplay: {replay} --trace"


@pytest.mark.parametrize("broken", CANARIES, ids=lambda broken: broken.name)
def test_the_simulator_notices(broken: Canary, hunts: dict[str, Future[Hunt]]) -> None:
    found = hunts[broken.name].result()
    assert found.seed is not None, (
        f"{broken.name} went unnoticed through {SEEDS_MAX} seeds of {broken.profile.__name__}"
    )
    print(f"{broken.name}: seed {found.seed}, {found.seconds:.1f} s: {found.failure}")


def test_a_canary_tells_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    """The command line shows a mistake with its timeline, and that it is gone afterwards."""
    name = "leader_counts_itself_before_sync"
    assert main(["--canary", name, "--seed", "1", "--trace"]) == 1
    story = capsys.readouterr().out
    assert "before they are durable" in story
    assert "role=leader" in story
    assert f"replay: python -m tests.simulator --canary {name} --seed 1 --trace" in story
    assert main(["--profile", "power_losses", "--seed", "1"]) == 0


def test_every_canary_says_what_it_is() -> None:
    assert len({each.name for each in CANARIES}) == len(CANARIES)
    for each in CANARIES:
        assert each.mistake.endswith("."), f"{each.name} needs a sentence as its docstring"
        assert each.seen_in
        assert each.profile in PROFILES
        assert 1 <= each.hint <= SEEDS_MAX
