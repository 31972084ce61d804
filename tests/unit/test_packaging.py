"""What pip installs: the wheel, its dependencies, and that the SDK needs nothing of the node.

The wheel is built by the real back end, in a temporary directory and without the network.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = {
    "kvorum": "client",
    "kvorum_cli": "cli",
    "kvorum_proto": "proto",
    "kvorum_server": "server",
}
SERVER_ONLY = {
    "google-crc32c": "google_crc32c",
    "grpcio-health-checking": "grpc_health",
    "grpcio-reflection": "grpc_reflection",
    "rocksdict": "rocksdict",
    "structlog": "structlog",
    "uvloop": "uvloop",
}
"""What the extra adds, and the module each is imported as."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = directory.glob("*.whl")
    with ZipFile(path) as opened:
        assert opened.testzip() is None
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(wheel.read(name).decode())


def test_the_wheel_has_the_four_packages_and_nothing_else(wheel: ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert len(tops) == len(PACKAGES) + 1


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_of_a_package_is_in_the_wheel(wheel: ZipFile, package: str) -> None:
    source = ROOT / PACKAGES[package]
    files = {
        path.relative_to(source).as_posix()
        for path in (source / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files == {name for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= files


def test_generated_modules_come_with_their_types_and_their_source(wheel: ZipFile) -> None:
    stems = {path.stem for path in (ROOT / "proto/kvorum_proto").glob("*.proto")}
    expected = {
        f"kvorum_proto/{s}{end}" for s in stems for end in (".proto", "_pb2.py", "_pb2.pyi")
    }
    assert expected <= set(wheel.namelist())


def test_the_commands_are_installed(wheel: ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    text = wheel.read(name).decode()
    assert "kvorum = kvorum_cli.main:main" in text
    assert "kvorum-server = kvorum_server.__main__:main" in text


def test_the_metadata_tells_version_licence_and_python(metadata: Message) -> None:
    version = re.search(r'"(.+)"', (ROOT / "client/kvorum/_version.py").read_text().split("=")[1])
    assert version is not None
    assert metadata["Version"] == version[1]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_node_is_an_extra(metadata: Message) -> None:
    required = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    base = {needed.name for needed in required if "extra" not in str(needed.marker)}
    assert base == {"click", "grpcio", "protobuf", "rich"}
    assert {needed.name for needed in required} - base == set(SERVER_ONLY)
    assert all(needed.specifier for needed in required)
    assert not any("==" in str(needed.specifier) for needed in required), "ranges, not pins"


def test_the_sdk_and_the_command_line_run_without_the_node_and_its_dependencies() -> None:
    absent = [*SERVER_ONLY.values(), "kvorum_server"]
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({absent}))\n"
        "import kvorum, kvorum_cli.main\n"
        "print(kvorum.__version__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", done.stdout)


def test_the_lock_file_satisfies_every_range() -> None:
    lines = (ROOT / "requirements/dev.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    locked = {canonicalize_name(name): version for name, version in pins.items()}
    ranges = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["server"],
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    for text in ranges:
        needed = Requirement(text)
        version = locked.get(canonicalize_name(needed.name))
        assert version is not None, f"{needed.name} is not locked: run `make lock`"
        assert version in needed.specifier, f"{needed.name} {version} is locked: run `make lock`"
