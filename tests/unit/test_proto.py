"""The generated protobuf modules against the files they come from, and against every runtime.

``make check`` compares them byte by byte with what the compiler writes. This test needs no
compiler: it reads the ``.proto`` files and looks every message, field and number up in the
descriptors.
"""

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.protobuf.message import Message

from kvorum_proto.command_pb2 import Result
from kvorum_proto.kv_pb2 import EncodedReplies, EncodedServerFrame, Replies, ServerFrame

DIRECTORY = Path(__file__).resolve().parents[2] / "proto/kvorum_proto"
PROTOS = sorted(DIRECTORY.glob("*.proto"))

TOKEN = re.compile(
    r"(?P<open>(?:message|enum|oneof|service)\s+\w+\s*\{)"
    r"|(?P<reserved>reserved[^;]*;)"
    r"|(?P<option>option\s+[^;]*;)"
    r"|(?P<rpc>rpc\s+\w+[^;{]*(?:;|\{\s*\}))"
    r"|(?P<field>(?:repeated\s+|optional\s+)?[\w.]+(?:<[^>]*>)?\s+\w+\s*=\s*\d+\s*;)"
    r"|(?P<value>\w+\s*=\s*\d+\s*;)"
    r"|(?P<close>\})"
)


def generated(proto: Path) -> ModuleType:
    return importlib.import_module(f"kvorum_proto.{proto.stem}_pb2")


def written(proto: Path) -> set[str]:
    """``Message.field = 3`` for every field, enum value and (without number) method of a file."""
    text = re.sub(r"//[^\n]*", "", proto.read_text(encoding="utf-8"))
    found: set[str] = set()
    path: list[str | None] = []
    for token in TOKEN.finditer(text):
        words = re.findall(r"\w+", token[0])
        scope = ".".join(name for name in path if name)
        match token.lastgroup:
            case "open":
                path.append(None if words[0] == "oneof" else words[1])
            case "close":
                path.pop()
            case "rpc":
                found.add(f"{scope}.{words[1]}")
            case "field" | "value":
                found.add(f"{scope}.{words[-2]} = {words[-1]}")
    assert not path, f"{proto.name}: a brace is open at the end"
    return found


def described(file: FileDescriptor) -> set[str]:
    """The same, from a descriptor."""
    found = {
        f"{service.name}.{method.name}"
        for service in file.services_by_name.values()
        for method in service.methods
    }
    for enum in file.enum_types_by_name.values():
        found |= described_enum(enum, enum.name)
    for message in file.message_types_by_name.values():
        found |= described_message(message, message.name)
    return found


def described_message(message: Descriptor, scope: str) -> set[str]:
    found = {f"{scope}.{field.name} = {field.number}" for field in message.fields}
    for enum in message.enum_types:
        found |= described_enum(enum, f"{scope}.{enum.name}")
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            found |= described_message(nested, f"{scope}.{nested.name}")
    return found


def described_enum(enum: EnumDescriptor, scope: str) -> set[str]:
    return {f"{scope}.{value.name} = {value.number}" for value in enum.values}


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.name)
def test_the_generated_module_says_what_the_file_says(proto: Path) -> None:
    assert described(generated(proto).DESCRIPTOR) == written(proto), "run `make proto`"
    assert written(proto)


@pytest.mark.parametrize("proto", PROTOS, ids=lambda path: path.name)
def test_the_generated_module_runs_under_every_runtime_of_our_range(proto: Path) -> None:
    text = (DIRECTORY / f"{proto.stem}_pb2.py").read_text(encoding="utf-8")
    assert "# Protobuf Python Version: 4.25." in text, "made by another protoc: run `make proto`"
    assert "ValidateProtobufRuntimeVersion" not in text
    assert (DIRECTORY / f"{proto.stem}_pb2.pyi").exists()


def test_no_generated_module_has_lost_its_file() -> None:
    stems = {path.stem.removesuffix("_pb2") for path in DIRECTORY.glob("*_pb2.py*")}
    assert stems == {path.stem for path in PROTOS}


@pytest.mark.parametrize(
    ("encoded", "plain"),
    [(EncodedReplies, Replies), (EncodedServerFrame, ServerFrame)],
    ids=["replies", "frame"],
)
def test_the_encoded_twins_have_the_fields_of_their_originals(
    encoded: type[Message], plain: type[Message]
) -> None:
    assert {(field.name, field.number) for field in encoded.DESCRIPTOR.fields} == {
        (field.name, field.number) for field in plain.DESCRIPTOR.fields
    }


def test_results_that_were_encoded_once_are_read_as_results() -> None:
    results = [Result(), Result.FromString(b"")]
    encoded = EncodedServerFrame(table_version=7)
    encoded.replies.add(
        group=1, ids=[4, 5], results=[result.SerializeToString() for result in results], revision=9
    )
    frame = ServerFrame.FromString(encoded.SerializeToString())
    assert frame.table_version == 7
    assert (frame.replies[0].group, list(frame.replies[0].ids)) == (1, [4, 5])
    assert list(frame.replies[0].results) == results
    assert frame.replies[0].revision == 9
