"""From what a user writes to what is sent, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvorum._errors import InvalidRequest
from kvorum._operations import (
    Compare,
    Delete,
    DeleteRange,
    Field,
    Get,
    Increment,
    Operation,
    Put,
    Scan,
    Txn,
    as_bytes,
    as_int64,
    has_range,
    keys_of,
    prefix_end,
    range_of,
    write_txn,
)
from kvorum._results import txn_result
from kvorum._types import DeleteRangeResult, Item, PutResult, ScanResult, TxnResult
from kvorum_proto import command_pb2 as wire


def message_of(txn: Txn) -> wire.Txn:
    """What is sent for a txn."""
    message = wire.Txn()
    write_txn(message, txn)
    return message


@pytest.mark.parametrize("value", [1, 1.5, None, ["a"], True])
def test_only_text_and_bytes_are_keys_and_values(value: object) -> None:
    with pytest.raises(TypeError, match="must be str or bytes"):
        as_bytes(value, "key")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1])
def test_numbers_beyond_64_bits_are_refused(value: int) -> None:
    with pytest.raises(InvalidRequest, match="64-bit"):
        as_int64(value, "by")


@pytest.mark.parametrize("value", ["1", 1.0, True])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="must be int"):
        as_int64(value, "by")  # type: ignore[arg-type]


@given(st.binary(max_size=5), st.binary(max_size=5))
def test_a_prefix_is_the_range_of_exactly_its_keys(prefix: bytes, key: bytes) -> None:
    start, end = range_of(None, None, prefix)
    inside = key >= start and (end == b"\x00" or key < end)
    assert inside == key.startswith(prefix) or key == b"", "the empty key does not exist"


@given(st.binary())
def test_the_end_of_a_prefix_is_beyond_all_its_keys(prefix: bytes) -> None:
    end = prefix_end(prefix)
    assert end == b"\x00" or (prefix + b"\xff" * 3 < end and not end.startswith(prefix))


def test_a_range_is_named_in_one_way() -> None:
    with pytest.raises(InvalidRequest, match="not both"):
        range_of("a", None, "b")
    with pytest.raises(InvalidRequest, match="end is empty"):
        range_of("a", "", None)


@pytest.mark.parametrize(
    ("compare", "relation", "target", "value"),
    [
        (Field("value", "a") == "1", wire.Compare.EQUAL, "value", b"1"),
        (Field("value", "a") != b"1", wire.Compare.NOT_EQUAL, "value", b"1"),
        (Field("version", "a") < 3, wire.Compare.LESS, "version", 3),
        (Field("mod_revision", "a") > 3, wire.Compare.GREATER, "mod_revision", 3),
        (Field("create_revision", "a") == 0, wire.Compare.EQUAL, "create_revision", 0),
    ],
)
def test_a_compared_field_is_a_condition(
    compare: Compare, relation: wire.Compare.Relation, target: str, value: object
) -> None:
    assert compare.message.relation == relation
    assert compare.message.WhichOneof("target") == target
    assert getattr(compare.message, target) == value
    assert "a" in repr(compare)


def test_a_condition_over_a_range_names_its_end() -> None:
    assert (Field("version", "a", "b") == 0).message.range_end == b"b"


def test_a_condition_is_no_truth_value() -> None:
    with pytest.raises(TypeError, match="when="):
        bool(Field("version", "a") == 0)
    with pytest.raises(TypeError, match="compare it first"):
        bool(Field("version", "a"))
    with pytest.raises(TypeError, match="unhashable"):
        hash(Field("version", "a"))


def test_fields_are_compared_with_their_own_kind() -> None:
    with pytest.raises(TypeError, match="str or bytes"):
        assert Field("value", "a") == 1
    with pytest.raises(TypeError, match="with int"):
        assert Field("version", "a") == "1"


def test_a_txn_names_its_keys_wherever_they_stand() -> None:
    inner = Txn(when=[Field("version", "f") == 0], then=[Put("g", "1")])
    txn = Txn(
        when=[Field("value", "a") == "1"],
        then=[Put("b", "1"), Get("c"), inner],
        otherwise=[Delete("d"), Increment("e", 2, minimum=0, maximum=9)],
    )
    message = message_of(txn)
    assert keys_of(message) == {b"a", b"b", b"c", b"d", b"e", b"f", b"g"}
    assert not has_range(message)
    assert message.failure[1].increment.maximum == 9


@pytest.mark.parametrize("operation", [DeleteRange(prefix="a"), Scan(prefix="a", limit=3)])
def test_ranges_are_found_however_deep(operation: Operation) -> None:
    assert has_range(message_of(Txn(then=[Txn(otherwise=[operation])])))


def test_a_condition_over_a_range_is_a_range() -> None:
    assert has_range(message_of(Txn(when=[Field("version", "a", "b") == 0])))


def test_foreign_objects_in_a_txn_are_refused() -> None:
    with pytest.raises(TypeError, match="a txn holds"):
        message_of(Txn(then=["put"]))  # type: ignore[list-item]
    with pytest.raises(TypeError, match="when holds compares"):
        message_of(Txn(when=[True]))  # type: ignore[list-item]


def test_results_come_back_as_they_were_asked() -> None:
    item = wire.Item(key=b"c", value=b"3", create_revision=2, mod_revision=3, version=2)
    page = wire.Result(range=wire.RangeResult(revision=5, items=[item], count=1, next_key=b"d"))
    answer = wire.TxnResult(
        revision=5,
        succeeded=True,
        results=[
            wire.Result(put=wire.PutResult(revision=5)),
            page,
            wire.Result(range=wire.RangeResult(revision=5)),
            page,
            wire.Result(increment=wire.IncrementResult(revision=5, value=-7)),
            wire.Result(delete_range=wire.DeleteRangeResult(revision=5, deleted=2)),
            wire.Result(txn=wire.TxnResult(revision=5, succeeded=False)),
        ],
    )
    asked: list[Operation] = [Put("a", "1"), Get("c"), Get("x"), Scan(prefix="c"), Increment("n")]
    asked += [DeleteRange(prefix="y"), Txn()]
    found = Item(b"c", b"3", 2, 3, 2)
    result = txn_result(answer, Txn(then=asked))
    assert result.results == (
        PutResult(5),
        found,
        None,
        ScanResult(5, (found,), 1, b"d"),
        -7,
        DeleteRangeResult(5, 2),
        TxnResult(False, 5, ()),
    )
    scanned = result.results[3]
    assert isinstance(scanned, ScanResult)
    assert scanned.more
