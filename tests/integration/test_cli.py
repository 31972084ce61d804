"""The command line as a user meets it: `kvorum up`, every verb against the cluster, `kvorum down`.

One cluster serves all tests but those about `up` itself. Verbs run in this process (a process for
each would spend its time on starting), `up` runs as one, because that is what it is about.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvorum_cli.main import run

PROGRAM = [sys.executable, "-c", "from kvorum_cli.main import main; main()"]
PATIENCE_SECONDS = 60.0


def base_port(count: int) -> int:
    """The first of ``count`` ports in a row that nobody listens on."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            for following in range(port + 1, port + count):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", following))
            return port


def up(data: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """`kvorum up --detach`, to its end."""
    command = [*PROGRAM, "up", "--detach", "--data", str(data), *more]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )


def pids(data: Path) -> dict[str, int]:
    """The processes of a cluster, by name, from what `up` wrote down."""
    content = json.loads((data / "cluster.json").read_text())
    return {node["name"]: node["pid"] for node in content["nodes"]}


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("cluster") / "data"
    started = up(data, "--base-port", str(base_port(3)), "--output", "json")
    assert started.returncode == 0, started.stderr
    try:
        yield json.loads(started.stdout)["endpoints"]
    finally:
        assert run(["down", "--data", str(data)]) == 0


@dataclass(frozen=True)
class Shell:
    """Runs verbs against the cluster and says what came out."""

    endpoints: str
    capture: pytest.CaptureFixture[bytes]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """What a verb printed, after checking its exit code; a failure prints exactly one line."""
        self.capture.readouterr()
        assert run(["--endpoints", self.endpoints, *arguments]) == code
        out, error = self.capture.readouterr()
        if code == 0:
            assert error == b""
            return out.decode(errors="surrogateescape")
        assert error.count(b"\n") <= 1, error
        return error.decode()

    def json(self, *arguments: str, code: int = 0) -> dict[str, object]:
        """The one object that a verb printed for programs."""
        self.capture.readouterr()
        assert run(["--endpoints", self.endpoints, *arguments, "--output", "json"]) == code
        answer = json.loads(self.capture.readouterr().out)
        assert isinstance(answer, dict)
        return answer


@pytest.fixture
def kvorum(endpoints: str, capsysbinary: pytest.CaptureFixture[bytes]) -> Shell:
    return Shell(endpoints, capsysbinary)


# --- Keys ---


def test_put_get_delete(kvorum: Shell) -> None:
    assert kvorum("put", "greeting", "hello").startswith("revision ")
    assert kvorum("get", "greeting") == "hello\n"
    assert kvorum.json("get", "greeting")["value"] == "hello"
    assert kvorum("get", "missing", code=1) == "kvorum: key 'missing' not found\n"
    assert kvorum("delete", "greeting").startswith("deleted, revision ")
    assert kvorum("delete", "greeting", code=1) == "kvorum: key 'greeting' not found\n"
    assert kvorum.json("delete", "greeting", code=1)["deleted"] == 0


def test_binary_values_from_files_come_back_as_they_were(kvorum: Shell, tmp_path: Path) -> None:
    picture = bytes(range(256)) * 40
    (tmp_path / "picture").write_bytes(picture)
    kvorum("put", "picture", "--file", str(tmp_path / "picture"))
    assert os.fsencode(kvorum("get", "picture", "--raw")) == picture
    assert os.fsencode(kvorum("get", "picture")) == picture
    assert kvorum.json("get", "picture")["value_encoding"] == "base64"


def test_old_revisions_can_be_read_until_they_are_compacted(kvorum: Shell) -> None:
    first = kvorum.json("put", "history", "old")["revision"]
    second = kvorum.json("put", "history", "new")["revision"]
    assert kvorum("get", "history", "--at", str(first)) == "old\n"
    assert kvorum("get", "history", "--stale", "10") == "new\n"
    assert kvorum("compact", "--keep", "1") == (
        f"compacted: revision {second} is the oldest that can be read\n"
    )
    assert "was compacted" in kvorum("get", "history", "--at", str(first), code=5)
    assert kvorum("compact", "--keep", "999999").startswith("nothing to compact")
    assert "revision 999999" in kvorum("get", "history", "--at", "999999", code=5)


def test_scan(kvorum: Shell) -> None:
    for number in range(5):
        kvorum("put", f"user/{number}", f"name\t{number}")
    assert kvorum("scan", "--prefix", "user/", "--limit", "2") == (
        "user/0\tname\\t0\nuser/1\tname\\t1\n"
    )
    assert kvorum("scan", "--from", "user/3", "--to", "user0", "--keys-only", "--reverse") == (
        "user/4\nuser/3\n"
    )
    assert kvorum("scan", "--prefix", "user/", "--count") == "5\n"
    assert kvorum.json("scan", "--prefix", "user/", "--count") == {"count": 5}
    assert kvorum.json("scan", "--prefix", "nobody/") == {"items": [], "count": 0}
    answer = kvorum.json("scan", "--prefix", "user/", "--keys-only", "--limit", "2")
    items = answer["items"]
    assert isinstance(items, list)
    assert [item["key"] for item in items] == ["user/0", "user/1"]
    assert answer["count"] == 2
    assert kvorum("delete", "user/0", "--range-end", "user/2").startswith("deleted 2 keys")
    assert kvorum.json("delete", "--prefix", "user/")["deleted"] == 3


def test_compare_and_set(kvorum: Shell) -> None:
    kvorum("cas", "cas", "--expect-absent", "--set", "1")
    kvorum("cas", "cas", "--expect", "1", "--set", "2")
    assert kvorum("cas", "cas", "--expect", "1", "--set", "3", code=3).startswith(
        "kvorum: conflict: 'cas' has '2' at revision "
    )
    assert "exists, with '2'" in kvorum("cas", "cas", "--expect-absent", "--set", "3", code=3)
    assert "'none' does not exist" in kvorum("cas", "none", "--expect", "1", "--set", "3", code=3)
    assert kvorum("get", "cas") == "2\n"


def test_increment(kvorum: Shell) -> None:
    assert kvorum("incr", "visits", "--by", "2") == "2\n"
    assert kvorum.json("incr", "visits") == {"value": 3}
    assert kvorum("incr", "visits", "--by", "-9", "--min", "0", code=5).startswith(
        "kvorum: incr 'visits': "
    )
    kvorum("put", "text", "hello")
    assert kvorum("incr", "text", code=5).startswith("kvorum: incr 'text': ")


def test_txn(kvorum: Shell, tmp_path: Path) -> None:
    transfer = tmp_path / "transfer.txn"
    transfer.write_text(
        "when\n value account/a = 100\nthen\n put account/a 90\n incr account/b by 10\n"
        "else\n put account/a 100\n"
    )
    assert kvorum("txn", "--file", str(transfer), code=3) == "", "else ran: no line, but a code"
    assert kvorum("txn", "--file", str(transfer)).splitlines()[1:] == [
        "  put account/a",
        "  incr account/b: 10",
    ]
    assert kvorum.json("txn", "--file", str(transfer), code=3)["succeeded"] is False
    transfer.write_text("then\n putt a 1\n")
    assert kvorum("txn", "--file", str(transfer), code=2) == (
        f"kvorum: {transfer}, line 2: 'putt' is no operation; there are put, get, delete, scan, "
        "incr, txn; did you mean 'put'?\n"
    )


def test_what_is_too_large_is_refused_with_its_limit(kvorum: Shell, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(1_200_000))
    line = kvorum("put", "large", "--file", str(tmp_path / "large"), code=5)
    assert line.startswith("kvorum: put 'large': ")
    assert "1200000" in line
    assert "value_bytes_max" in line
    assert kvorum("put", "k" * 9000, "1", code=5).startswith("kvorum: put (a key of 9000 bytes): ")


# --- The cluster ---


def test_status_and_members(kvorum: Shell) -> None:
    lines = kvorum("status").splitlines()
    assert lines[0].startswith("kvorum ")
    assert [line.split()[0] for line in lines[1:5]] == ["NODE", "n1", "n2", "n3"]
    assert all(line.endswith("healthy") for line in lines[2:5])
    assert sum(" leader " in line for line in lines[2:5]) == 1
    nodes = kvorum.json("status")["nodes"]
    assert isinstance(nodes, list)
    assert len({node["cluster_id"] for node in nodes}) == 1
    members = kvorum("member", "list").splitlines()
    assert [line.split()[0] for line in members] == ["NAME", "n1", "n2", "n3"]
    assert kvorum.json("member", "list")["members"]


def test_status_finds_the_other_nodes_from_one(kvorum: Shell) -> None:
    one = Shell(kvorum.endpoints.split(",")[1], kvorum.capture)
    assert [line.split()[0] for line in one("status").splitlines()[2:5]] == ["n1", "n2", "n3"]


@pytest.mark.parametrize("operation", ["put", "get", "mixed"])
def test_bench(kvorum: Shell, operation: str) -> None:
    arguments = ("--in-flight", "8", "--seconds", "0.3", "--warm-up", "0", "--keys", "50")
    report = kvorum.json("bench", operation, *arguments)
    assert report["operation"] == operation
    operations, latency = report["operations"], report["latency_ms"]
    assert isinstance(operations, int)
    assert operations > 0
    assert isinstance(latency, dict)
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p99_9"] <= latency["max"]
    assert kvorum("scan", "--prefix", "kvorum-bench/", "--count") == "0\n"


# --- up and down ---


def test_up_again_down_and_up_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = base_port(1)
    monkeypatch.setenv("KVORUM_ENDPOINTS", f"127.0.0.1:{port}")
    data = ["--data", str(tmp_path / "data")]
    first = up(tmp_path / "data", "--nodes", "1", "--base-port", str(port))
    assert first.returncode == 0, first.stderr
    assert "try it from a second shell: export KVORUM_ENDPOINTS=" in first.stdout
    try:
        assert run(["put", "greeting", "hello"]) == 0
        again = up(tmp_path / "data")
        assert again.returncode == 5
        assert again.stderr.startswith(
            f"kvorum: the cluster in {tmp_path}/data runs already: n1 (pid"
        )
        other = up(tmp_path / "other", "--nodes", "1", "--base-port", str(port))
        assert other.returncode == 5
        assert f"cannot listen on 127.0.0.1:{port}" in other.stderr
    finally:
        capsys.readouterr()
        assert run(["down", *data]) == 0
    assert capsys.readouterr().out == f"stopped n1; the data stays in {tmp_path}/data\n"
    assert run(["down", *data]) == 1
    assert up(tmp_path / "data", "--nodes", "3").returncode == 2
    assert up(tmp_path / "data").returncode == 0
    try:
        capsys.readouterr()
        assert run(["get", "greeting"]) == 0
        assert capsys.readouterr().out == "hello\n"
    finally:
        assert run(["down", *data]) == 0


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    failed = up(
        tmp_path / "data", "--nodes", "1", "--base-port", str(base_port(1)), "--consensus", "magic"
    )
    assert failed.returncode == 4
    assert failed.stderr.startswith("kvorum: the cluster was stopped: n1 ended; the last line of ")
    assert "--consensus is 'magic'" in failed.stderr


def test_up_in_front_tells_of_a_death_and_stops_the_rest_in_order(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [*PROGRAM, "up", "--data", str(data), "--base-port", str(base_port(3))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        try:
            read_until(output, "try it from a second shell")
            os.kill(pids(data)["n2"], signal.SIGKILL)
            assert " n2: down: " in read_until(output, " n2: down")
            assert up(data).returncode == 0, "a second shell starts it again"
            assert read_until(output, r" n2: .*healthy")
        finally:
            process.send_signal(signal.SIGTERM)
            rest = output.read()
            assert process.wait(PATIENCE_SECONDS) == 0
    assert f"stopped; the data stays in {data}" in rest
    assert set(pids(data).values()) == {None}


def read_until(output: Iterator[str], text: str) -> str:
    """The first line that matches; fails when the output ends, or patience does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for line in output:
        if re.search(text, line):
            return line
        assert time.monotonic() < deadline, f"still no {text!r}"
    raise AssertionError(f"the output ended without {text!r}")
