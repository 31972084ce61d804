"""Command lines as people type them, right and wrong, without a cluster: output and codes."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import click
import pytest

import kvorum
from kvorum_cli import completion, exits, settings
from kvorum_cli.exits import Exit
from kvorum_cli.kv import read_value
from kvorum_cli.main import VERBS, cli, main, run
from kvorum_cli.up import NODES_MAX

PROGRAM = "from kvorum_cli.main import main; main()"
"""The console script, for tests that need a process of its own."""
NOBODY = "127.0.0.1:1"
"""A port on which nobody ever listens."""


def commands(group: click.Group = cli, path: str = "kvorum") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def line_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    """Runs a command line that must fail with one line; the line."""
    assert run(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("kvorum: ")
    return captured.err.removeprefix("kvorum: ").rstrip()


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=lambda value: str(value))
def test_every_verb_explains_itself(
    path: str, command: click.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path.split()[1:], "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: {path}" in text
    assert "--endpoints" in text
    if not isinstance(command, click.Group):
        assert f"Examples:\n  {path}" in text or re.search(rf"Examples:\n.*{path}", text)


def test_summaries_fit_into_the_list_of_verbs() -> None:
    assert [path for path, command in commands() if "..." in command.get_short_help_str(60)] == []


@pytest.mark.parametrize("arguments", [[], ["member"]])
def test_without_a_verb_there_is_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 0
    assert "Usage: kvorum" in capsys.readouterr().out


def test_help_lists_the_verbs_in_the_order_in_which_one_meets_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(["--help"])
    listed = re.findall(r"^  ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE)
    assert listed == [verb.name for verb in VERBS]


@pytest.mark.parametrize("arguments", [["--version"], ["get", "--version"]])
def test_the_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"kvorum {settings.version()}\n"


def test_the_entry_point_hands_the_code_to_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["kvorum", "pu"])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == Exit.USAGE


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("pu a 1", "there is no verb 'pu'; did you mean 'put' or 'up'?"),
        ("gte a", "there is no verb 'gte'; did you mean 'get'?"),
        ("frobnicate", "there is no verb 'frobnicate'"),
        ("member lst", "member: there is no verb 'lst'; did you mean 'list'?"),
        ("get", "get: missing argument 'KEY'"),
        ("put a", "put: the value is missing: give VALUE, '-' or --file"),
        ("put a 1 --file x", "put: give either VALUE or --file, not both"),
        ("incr a --by x", "incr: invalid value for '--by': 'x' is not an integer"),
        ("scan --limit 0", "scan: invalid value for '--limit': 0 must be at least 1"),
        ("delete", "delete: give either KEY or --prefix"),
        ("compact", "compact: give either REVISION or --keep"),
        ("--timeout 0 get a", "invalid value for '--timeout': 0 must be more than 0 seconds"),
        ("get a --endpoints x", "get: invalid value for '--endpoints': 'x' must be host:port"),
        ("up --endpoints a:1", "up: up starts a cluster of its own: leave out --endpoints"),
    ],
)
def test_a_mistake_is_one_line_that_helps(
    typed: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = line_of(capsys, *typed.split(), code=Exit.USAGE)
    mistake, where_to_read = re.split(r"; see |(?<=\?) See ", line)
    assert mistake == told
    assert re.fullmatch(r"'kvorum[a-z ]* --help'", where_to_read)


def test_a_file_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(capsys, "put", "a", "--file", "/nowhere", code=Exit.USAGE)
    assert line == "cannot read /nowhere: No such file or directory"


@pytest.mark.parametrize(
    ("argument", "file", "value"),
    [(None, None, None), ("text", None, b"text"), ("-", None, b"typed\n"), (None, "-", b"typed\n")],
)
def test_a_value_comes_from_one_place(
    argument: str | None,
    file: str | None,
    value: bytes | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"typed\n")))
    assert read_value("VALUE", argument, "--file", file) == value


def test_the_number_of_nodes_has_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(capsys, "up", "--nodes", str(NODES_MAX + 1), code=Exit.USAGE)
    assert f"{NODES_MAX + 1} must be from 1 to {NODES_MAX}" in line


@pytest.mark.parametrize(
    "typed",
    [
        "delete --prefix p a", "delete --prefix p --range-end b", "scan --prefix p --from a",
        "scan --count --reverse", "scan --count --at 3", "cas a --set 1", "cas a --expect-absent",
        "cas a --expect x --expect-absent --set 1", "cas a --expect - --set -",
        "compact 3 --keep 2", "bench", "bench fly", "completion tcsh", "get a --output yaml",
        "up --nodes 0",
    ],
)  # fmt: skip
def test_combinations_without_a_meaning_are_refused(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = line_of(capsys, *typed.split(), code=Exit.USAGE)
    assert line.endswith(f"'kvorum {typed.split()[0]} --help'")


def test_a_value_that_looks_like_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    line = line_of(capsys, "put", "offset", "-5", code=Exit.USAGE)
    assert "a value that begins with a dash goes after --" in line
    assert run(["put", "offset", "--endpoints", NOBODY, "--timeout", "0.05", "--", "-5"]) == 4


def test_an_empty_prefix_never_deletes_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert "every key" in line_of(capsys, "delete", "--prefix", "", code=Exit.USAGE)


# --- Without a cluster ---


@pytest.mark.parametrize("verb", ["get x", "put x 1", "scan", "incr x", "member list"])
def test_a_dead_cluster_is_one_line_within_the_timeout(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    started = time.monotonic()
    line = line_of(
        capsys, *verb.split(), "--endpoints", NOBODY, "--timeout", "0.2", code=Exit.UNAVAILABLE
    )
    assert time.monotonic() - started < 5
    assert f"{NOBODY} connection refused" in line


def test_who_named_no_cluster_is_told_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    error = kvorum.Unavailable("no endpoint could serve get")
    told = str(exits.stop_for(error, "get 'x'", endpoints_given=False))
    assert told == (
        "no endpoint could serve get; 'kvorum up' starts a cluster, --endpoints names another one"
    )
    assert str(exits.stop_for(error, "get 'x'", endpoints_given=True)) == str(error)


def test_status_shows_who_does_not_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--endpoints", NOBODY]) == Exit.UNAVAILABLE
    captured = capsys.readouterr()
    assert re.search(rf"-\s+{NOBODY}.*unreachable: connection refused\n", captured.out)
    assert captured.err == f"kvorum: no node answers at {NOBODY}\n"


def test_bench_against_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("bench", "put", "--endpoints", NOBODY, "--timeout", "0.1")
    assert "no endpoint could serve put" in line_of(capsys, *arguments, code=Exit.UNAVAILABLE)


# --- Global options ---


@pytest.mark.parametrize(
    "typed",
    [
        "--endpoints {0} --timeout 0.05 get x",
        "get x --endpoints {0} --timeout 0.05",
        "--endpoints a:2 get x --timeout 0.05 --endpoints {0}",
        "--timeout 9 member --timeout 0.05 list --endpoints {0}",
    ],
)
def test_global_options_stand_before_or_after_the_verb_and_the_last_one_wins(
    typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = typed.format(NOBODY).split()
    line = line_of(capsys, *arguments, code=Exit.UNAVAILABLE)
    assert f"within 0.05 s: {NOBODY} connection refused" in line


def test_endpoints_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(settings.ENDPOINTS_VARIABLE, NOBODY)
    line = line_of(capsys, "get", "x", "--timeout", "0.05", code=Exit.UNAVAILABLE)
    assert NOBODY in line
    assert "kvorum up" not in line


def test_the_default_is_that_of_the_library() -> None:
    assert settings.DEFAULT_ENDPOINTS == kvorum.DEFAULT_ENDPOINTS


# --- Codes ---


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (kvorum.Unavailable("x"), 4),
        (kvorum.Busy("x"), 4),
        (kvorum.DeadlineExceeded("x"), 4),
        (kvorum.UnknownOutcome("x"), 6),
        (kvorum.Conflict("x", None), 3),
        (kvorum.KeyNotFound("x"), 1),
        (kvorum.LimitExceeded("x"), 5),
        (kvorum.Compacted("x", 7), 5),
        (kvorum.WrongCluster("x"), 5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_of_the_library_has_its_code(error: kvorum.KvorumError, code: int) -> None:
    assert exits.stop_for(error, "get 'k'", endpoints_given=True).code == code


def test_a_line_is_a_line() -> None:
    assert str(exits.Stop(Exit.REFUSED, "two\nlines")) == "two lines"


def test_a_bug_keeps_its_traceback_and_is_not_taken_for_not_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @cli.command("crash")
    def crash() -> None:
        raise RuntimeError("boom")

    try:
        assert run(["crash"]) == Exit.BUG
    finally:
        del cli.commands["crash"]
    error = capsys.readouterr().err
    assert "RuntimeError: boom" in error
    assert error.endswith(
        "kvorum: this is a bug of kvorum, please report it with the lines above\n"
    )


# --- Start-up and completion ---


def test_help_and_completion_import_nothing_slow() -> None:
    program = (
        "import sys; from kvorum_cli.main import run\n"
        "assert run(['--help']) == run(['get', '--help']) == run(['completion', 'zsh']) == 0\n"
        "print(sorted({'grpc', 'rich', 'asyncio', 'kvorum', 'kvorum_server'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_each_shell_gets_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"{completion.COMPLETION_VARIABLE}={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "offered"),
    [("kvorum sc", {"plain,scan"}), ("kvorum bench ", {"plain,put", "plain,get", "plain,mixed"})],
)
def test_a_shell_that_asks_gets_completions(words: str, offered: set[str]) -> None:
    environment = {
        **os.environ,
        completion.COMPLETION_VARIABLE: "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) == offered


@pytest.mark.parametrize("typed", ["--help", "txn --help", "completion bash"])
def test_a_reader_that_goes_away_is_not_an_error(typed: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *typed.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    with process.stderr as errors:
        assert errors.read() == b""
    assert process.wait(30) == Exit.OUTPUT_CLOSED


def test_a_full_disk_under_the_output_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == Exit.INPUT_OUTPUT
    assert done.stderr == b"kvorum: cannot read or write: No space left on device\n"
