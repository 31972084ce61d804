"""The way from flags, environment and file to a Config, and what a person reads when it fails."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from kvorum_server.config import MIB, Config, ConfigError
from kvorum_server.options import CHOICES, GROUPS, default_of, flag_of, load, unit_of, variable_of

NAMES = [option.name for option in dataclasses.fields(Config)]


def complaint(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """The one line that a node prints before it refuses to start."""
    with pytest.raises(ConfigError) as refused:
        load(arguments, environment or {})
    message = str(refused.value)
    assert "\n" not in message
    return message


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_nothing_given_is_the_default_config() -> None:
    assert load([], {}) == Config()


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = write(tmp_path / "node.toml", "tick_ms = 11\nsessions_max = 12\nname = 'n9'\n")
    environment = {"KVORUM_TICK_MS": "21", "KVORUM_SESSIONS_MAX": "22"}
    config = load(["--config", file, "--tick-ms", "31"], environment)
    assert (config.tick_ms, config.sessions_max, config.name) == (31, 22, "n9")
    assert config.listen == Config().listen


def test_the_file_may_be_named_by_the_environment_and_the_flag_wins(tmp_path: Path) -> None:
    one = write(tmp_path / "one.toml", "tick_ms = 1\n")
    two = write(tmp_path / "two.toml", "tick_ms = 2\n")
    assert load([], {"KVORUM_CONFIG": one}).tick_ms == 1
    assert load(["--config", two], {"KVORUM_CONFIG": one}).tick_ms == 2


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_understood_from_all_three_places(name: str, tmp_path: Path) -> None:
    default = str(getattr(Config(), name))
    quoted = default if default.isdigit() else f"'{default}'"
    file = write(tmp_path / "node.toml", f"{name} = {quoted}\n")
    assert load([flag_of(name), default], {}) == Config()
    assert load([], {variable_of(name): default}) == Config()
    assert load(["--config", file], {}) == Config()


@pytest.mark.parametrize("name", NAMES)
def test_a_default_as_shown_can_be_typed_back(name: str) -> None:
    assert load([flag_of(name), default_of(name)], {}) == Config()


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("--log-bytes-max", "3MiB", 3 * MIB),
        ("--log-bytes-max", "3 MiB", 3 * MIB),
        ("--log-bytes-max", "4096", 4096),
        ("--session-idle-ms", "90s", 90_000),
        ("--session-idle-ms", "2min", 120_000),
        ("--history-age-ms", "1h", 3_600_000),
        ("--history-age-ms", "0", 0),
    ],
)
def test_sizes_and_times_take_suffixes(flag: str, text: str, value: int) -> None:
    name = flag.removeprefix("--").replace("-", "_")
    assert getattr(load([flag, text], {}), name) == value


def test_a_bad_value_is_named_with_its_place_and_remedy(tmp_path: Path) -> None:
    file = write(tmp_path / "node.toml", "sessions_max = 'x'\n")
    expected = "'x'; it must be an integer of at least 1"
    assert complaint(["--sessions-max", "x"]) == f"--sessions-max is {expected}"
    assert complaint([], {"KVORUM_SESSIONS_MAX": "x"}) == f"KVORUM_SESSIONS_MAX is {expected}"
    assert complaint(["--config", file]) == f"sessions_max in {file} is {expected}"


@pytest.mark.parametrize("text", ["", "-1", "0", "1.5", "1e3", "ten", "5 apples", "9" * 5000, "٣"])
def test_what_is_no_count_is_refused(text: str) -> None:
    assert "it must be an integer of at least 1" in complaint(["--partitions", text])


@pytest.mark.parametrize("literal", ["true", "1.5", "[1]", "2026-01-01"])
def test_toml_values_of_another_type_are_refused(literal: str, tmp_path: Path) -> None:
    number = write(tmp_path / "number.toml", f"tick_ms = {literal}\n")
    text = write(tmp_path / "text.toml", f"name = {literal}\n")
    assert "it must be an integer of at least 1" in complaint(["--config", number])
    assert "it must be text in quotes" in complaint(["--config", text])


def test_a_size_suffix_means_nothing_on_a_time() -> None:
    assert complaint(["--tick-ms", "1MiB"]) == (
        "--tick-ms is '1MiB'; it must be an integer of at least 1, with or without h, min, s, ms"
    )


def test_unknown_options_are_refused_with_the_nearest_one(tmp_path: Path) -> None:
    file = write(tmp_path / "node.toml", "tick-ms = 5\n")
    assert complaint(["--tick-m", "5"]) == "--tick-m is no option; did you mean --tick-ms?"
    assert complaint(["--tickms=5"]) == "--tickms is no option; did you mean --tick-ms?"
    assert complaint([], {"KVORUM_TICKMS": "5"}) == (
        "KVORUM_TICKMS is no option; did you mean KVORUM_TICK_MS?"
    )
    assert complaint(["--config", file]) == (
        f"tick-ms in {file} is no option; did you mean tick_ms?"
    )


def test_an_option_that_resembles_none_points_to_the_help() -> None:
    assert complaint(["--zzz"]) == "--zzz is no option; kvorum-server --help lists all options"
    assert complaint(["serve"]) == "'serve' is not expected: every option begins with --"


def test_a_flag_without_its_value_is_refused() -> None:
    assert complaint(["--tick-ms"]) == "--tick-ms: expected one argument"


@pytest.mark.parametrize(
    "variable",
    [
        "KVORUM_ENDPOINTS",
        "KVORUM_FENCING_TOKEN",
        "KVORUM_SERVICE_HOST",
        "KVORUM_SERVICE_PORT_GRPC",
        "KVORUM_PORT",
        "KVORUM_PORT_7400_TCP",
        "KVORUM_PORT_7400_TCP_ADDR",
        "KVORUM_HEADLESS_SERVICE_PORT",
        "PATH",
    ],
)
def test_variables_of_the_client_and_of_kubernetes_are_let_be(variable: str) -> None:
    assert load([], {variable: "tcp://10.0.0.1:7400"}) == Config()


def test_a_table_in_the_file_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "node.toml", "[time]\ntick_ms = 5\n")
    assert "options stand at the top" in complaint(["--config", file])


def test_a_file_that_is_absent_or_no_toml_is_named(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.toml")
    broken = write(tmp_path / "broken.toml", "tick_ms = = 5\n")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert complaint(["--config", absent]) == (
        f"--config: cannot read {absent}: No such file or directory"
    )
    assert complaint([], {"KVORUM_CONFIG": broken}).startswith(
        f"KVORUM_CONFIG: {broken} is not TOML: "
    )
    assert f"{binary} is not TOML" in complaint(["--config", str(binary)])


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_one_of_its_words(name: str) -> None:
    expected = " or ".join(CHOICES[name])
    assert complaint([flag_of(name), "loud"]) == f"{flag_of(name)} is 'loud'; it must be {expected}"


@pytest.mark.parametrize("flag", ["--listen", "--name", "--initial-cluster"])
def test_places_are_checked_before_anything_is_opened(flag: str) -> None:
    message = complaint([flag, "no place!"])
    assert message.startswith(f"{flag} is 'no place!': ")


def test_options_that_contradict_each_other_are_both_named() -> None:
    message = complaint(["--election-ticks-min", "30"], {"KVORUM_ELECTION_TICKS_MAX": "20"})
    assert "election_ticks_max is 20; it must be greater than election_ticks_min (30)" in message
    assert message.endswith("(given: KVORUM_ELECTION_TICKS_MAX, --election-ticks-min)")


def test_a_node_must_stand_in_its_initial_cluster() -> None:
    cluster = "n1=127.0.0.1:7400,n2=127.0.0.1:7401"
    assert load(["--name", "n2", "--initial-cluster", cluster], {}).name == "n2"
    assert complaint(["--name", "n3", "--initial-cluster", cluster]) == (
        "name is 'n3'; it must be one of those in initial_cluster: n1, n2 "
        "(given: --name, --initial-cluster)"
    )


def test_help_explains_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(["--help"], {})
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in dataclasses.fields(Config):
        assert f"{flag_of(option.name)} " in text
        assert " ".join(option.metadata["help"].split()[:4]) in text
    assert all(f"{heading}:" in text for heading in GROUPS.values())
    assert "[64MiB]" in text


def test_headings_belong_to_options_that_exist() -> None:
    assert set(GROUPS) <= set(NAMES)
    assert next(iter(GROUPS)) == NAMES[0]


def test_a_number_says_its_unit_in_its_name() -> None:
    units = {name: unit_of(name) for name in NAMES}
    assert units["tick_ms"] == "ms"
    assert units["heartbeat_ticks"] == "ticks"
    assert units["log_bytes_max"] == "bytes"
    assert units["sessions_max"] == "number"
