"""How ``kvorum backup restore`` makes data directories: a process of the node for each, in turn.

The command line knows the layout of a cluster on one machine (``local_cluster``) and nothing of
what is in a data directory; ``kvorum-server restore`` knows that and makes one directory, or none.
Several of them become a cluster by the file ``cluster.json``, which is written last: without it
``kvorum up`` refuses what it finds. When one directory cannot be made, those made before it are
removed.

A process tells its progress as lines of JSON, and in the last one what it has restored; what went
wrong is one line on its standard error, which is shown as ours. It runs in a session of its own, so
that Ctrl-C reaches it once, through us, and leaves it the time to clean up.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.local_cluster import LocalCluster, Wanted, require_server
from kvorum_proto.backup_file import BackupError, BackupReader
from kvorum_proto.backup_pb2 import BackupHeader

Show = Callable[[str, int, int | None], None]
"""Told what has been done: in words, in bytes, and of how many bytes."""

USAGE_CODE = 2
REFUSED_CODE = 1
"""Exit codes of ``kvorum-server restore``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What all nodes have in common; None = the default of ``kvorum-server restore``."""

    file: Path
    replicas: int | None = None
    revision_bump: int | None = None


@dataclass(frozen=True, slots=True)
class Restored:
    """What has been made; ``revisions`` has the one of each group."""

    names: tuple[str, ...]
    cluster_id: str
    items: int
    revisions: dict[int, int]


def restore_one(
    options: Options, data: Path, name: str, initial_cluster: str, token: str, show: Show
) -> Restored:
    """One node of a cluster on several machines. Raises Stop."""
    require_server()
    size_bytes = options.file.stat().st_size
    return _run(
        options,
        data,
        name,
        initial_cluster,
        token,
        lambda read_bytes: show(name, read_bytes, size_bytes),
    )


def restore_here(
    options: Options, data: Path, nodes: int, base_port: int | None, show: Show
) -> Restored:
    """A cluster on this machine, ready for ``kvorum up``. Raises Stop."""
    require_server()
    header = _header(options.file)
    manifest = Wanted(
        nodes=nodes,
        base_port=base_port,
        partitions=header.partitions,
        replicas=options.replicas,
        consensus=header.protocol,
    ).manifest()
    options = Options(
        file=options.file, replicas=manifest.replicas, revision_bump=options.revision_bump
    )
    if data.exists() and any(data.iterdir()):
        raise Stop(Exit.REFUSED, f"{data} is not empty; choose another --data")
    size_bytes = options.file.stat().st_size
    token = secrets.token_hex(16)
    made: list[Path] = []
    existed = data.exists()
    try:
        for number, node in enumerate(manifest.nodes):
            before = number * size_bytes
            restored = _run(
                options,
                data / node.name,
                node.name,
                manifest.initial_cluster,
                token,
                lambda read_bytes, before=before, name=node.name: show(  # type: ignore[misc]
                    name, before + read_bytes, size_bytes * nodes
                ),
            )
            made.append(data / node.name)
        LocalCluster(data, manifest).record()
    except BaseException:
        for directory in made:
            shutil.rmtree(directory, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):
                data.rmdir()
        raise
    names = tuple(node.name for node in manifest.nodes)
    return Restored(names, restored.cluster_id, restored.items, restored.revisions)


def _header(file: Path) -> BackupHeader:
    """The beginning of a file, judged so far. Raises Stop."""
    try:
        with file.open("rb") as opened:
            return BackupReader(opened, str(file)).header
    except BackupError as error:
        raise Stop(Exit.REFUSED, str(error)) from None


def _run(
    options: Options,
    data: Path,
    name: str,
    initial_cluster: str,
    token: str,
    progress: Callable[[int], None],
) -> Restored:
    """Has the node make one directory. Raises Stop."""
    command = [sys.executable, "-P", "-m", "kvorum_server", "restore"]
    command += ["--data", str(data), "--name", name]
    command += ["--initial-cluster", initial_cluster, f"--token={token}"]
    if options.replicas is not None:
        command += ["--replicas", str(options.replicas)]
    if options.revision_bump is not None:
        command += ["--revision-bump", str(options.revision_bump)]
    command += ["--", str(options.file)]
    last: dict[str, object] = {}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None, "its output comes to us"
        assert child.stderr is not None, "and what it complains about"
        try:
            for line in child.stdout:
                last = json.loads(line)
                if "read_bytes" in last:
                    progress(int(str(last["read_bytes"])))
            complaint = child.stderr.read()
        except BaseException:
            child.send_signal(signal.SIGINT)
            raise
    if child.returncode != 0:
        raise _stop(child.returncode, complaint)
    return _restored(name, last["restored"])


def _stop(code: int, complaint: str) -> Stop:
    """The end of a process as ours; what it did not mean to say is a bug and shown in full."""
    line = complaint.strip().removeprefix("kvorum-server: ")
    if code == USAGE_CODE:
        return Stop(Exit.USAGE, line)
    if code == REFUSED_CODE and "\n" not in line:
        return Stop(Exit.REFUSED, line)
    return Stop(Exit.BUG, f"kvorum-server restore ended with {code}: {line}")


def _restored(name: str, told: object) -> Restored:
    assert isinstance(told, dict), "the last line says what was restored"
    revisions = {int(group): int(revision) for group, revision in told["revisions"].items()}
    return Restored((name,), str(told["cluster_id"]), int(told["items"]), revisions)
