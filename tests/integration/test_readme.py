"""The README is run: every line of its tour gives the output that the README shows.

The blocks that follow a ``tour`` comment are taken as they stand; only the default ports are
replaced by those of the test's own cluster.
"""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cluster import Cluster, running_cluster

README = Path(__file__).resolve().parents[2] / "README.md"
DEFAULT_ENDPOINTS = "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402"

pytestmark = pytest.mark.timeout(120)


def tour_block(language: str) -> str:
    """The fenced block of this language behind a tour comment."""
    pattern = rf"<!-- tour:.*?-->\n```{language}\n(.*?)```"
    blocks = re.findall(pattern, README.read_text(), re.DOTALL)
    assert len(blocks) == 1, f"one {language} block of the README is the tour"
    return str(blocks[0])


def output_after(block: str) -> str:
    """The fenced block of plain text that follows another block."""
    rest = README.read_text().split(block, 1)[1]
    match = re.search(r"```text\n(.*?)```", rest, re.DOTALL)
    assert match is not None
    return match[1]


def run(command: list[str] | str, cluster: Cluster, directory: Path) -> str:
    """Standard output and error of a command, in the order they were written."""
    scripts = Path(sys.executable).parent
    environment = os.environ | {
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "KVORUM_ENDPOINTS": cluster.endpoints,
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        command,
        shell=isinstance(command, str),
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def steps(block: str) -> list[tuple[str, str]]:
    """Commands of a console block, each with the output that is shown under it."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def test_the_tour_in_the_shell_and_from_python(tmp_path: Path) -> None:
    async def story() -> None:
        shell = steps(tour_block("console"))
        assert len(shell) > 10
        async with running_cluster(tmp_path, ready=False) as cluster:
            for command, expected in shell:
                shown = await asyncio.to_thread(run, command, cluster, tmp_path)
                assert shown == expected, f"$ {command}"
            program = tour_block("python")
            assert DEFAULT_ENDPOINTS in program
            local = program.replace(DEFAULT_ENDPOINTS, cluster.endpoints)
            shown = await asyncio.to_thread(run, [sys.executable, "-c", local], cluster, tmp_path)
            assert shown == output_after(program)

    asyncio.run(story())
