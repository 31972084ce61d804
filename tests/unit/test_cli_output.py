"""Bytes for people and for programs: nothing is lost, no control character reaches a terminal."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum import Item, Put
from kvorum_cli.output import escape, is_text, json_field, json_item, write_note, write_value
from kvorum_cli.txn_text import parse


@given(st.binary(max_size=50))
def test_an_escaped_value_is_one_line_of_text(value: bytes) -> None:
    shown = escape(value)
    assert shown.isprintable()
    assert is_text(shown.encode())


@given(st.binary(max_size=50))
def test_escaping_is_reversible_in_the_text_of_a_txn(value: bytes) -> None:
    quoted = escape(value).replace('"', '\\"')
    (operation,) = parse(f'then\nput key "{quoted}"').then
    assert operation == Put(b"key", value)


@given(st.binary(max_size=50))
def test_a_field_of_an_object_can_be_read_back(value: bytes) -> None:
    field = json.loads(json.dumps(json_field("value", value)))
    if "value_encoding" in field:
        assert field["value_encoding"] == "base64"
        assert base64.b64decode(field["value"]) == value
    else:
        assert field["value"].encode() == value


def test_an_item_as_an_object() -> None:
    item = Item(b"a\xff", b"1", 2, 3, 2)
    assert json_item(item) == {
        "key": "Yf8=",
        "key_encoding": "base64",
        "value": "1",
        "create_revision": 2,
        "mod_revision": 3,
        "version": 2,
        "lease": 0,
    }
    assert "value" not in json_item(item, keys_only=True)


@pytest.mark.parametrize(
    ("value", "raw", "written"),
    [
        (b"hello", False, b"hello\n"),
        (b"hello", True, b"hello"),
        (b"", False, b"\n"),
        (b"\x89PNG\xff", False, b"\x89PNG\xff"),
        (b"\x89PNG\xff", True, b"\x89PNG\xff"),
    ],
)
def test_a_value_in_a_pipe(
    value: bytes, raw: bool, written: bytes, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_value(value, raw=raw)
    assert capsysbinary.readouterr() == (written, b"")


def test_a_note_is_signed(capsys: pytest.CaptureFixture[str]) -> None:
    write_note("listen")
    assert capsys.readouterr().err == "kvorum: listen\n"
