"""Every golden story about a partition."""

import os
from pathlib import Path

import pytest

from tests.scripts.kv_runner import run_script

STORIES = sorted((Path(__file__).parent / "mvcc").glob("*.txt"))


@pytest.mark.parametrize("path", STORIES, ids=lambda path: path.stem)
def test_story(path: Path) -> None:
    expected = path.read_text()
    happened = run_script(expected)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(happened)
        return
    assert happened == expected


def test_stories_were_found() -> None:
    assert len(STORIES) >= 10
