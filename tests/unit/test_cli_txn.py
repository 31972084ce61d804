"""What the verb txn makes of an answer, for people and for programs."""

import json

from kvorum import DeleteRangeResult, DeleteResult, Item, PutResult, ScanResult, TxnResult
from kvorum_cli.txn import describe, json_result, result_lines
from kvorum_cli.txn_text import parse

PROGRAM = parse(
    """
    when
      absent a
    then
      put a 1
      get b
      get c
      delete d
      delete prefix e/
      delete from f to g
      incr h by 2
      scan prefix i/ limit 1
      scan from j keys-only
      txn
      then
        put k 1
      else
        get k
      end
    else
      get a
    """
)
ITEM = Item(b"b", b"tab\there", 2, 3, 2)
ANSWER = TxnResult(
    True,
    9,
    (
        PutResult(9),
        ITEM,
        None,
        DeleteResult(9, False),
        DeleteRangeResult(9, 3),
        DeleteRangeResult(9, 0),
        44,
        ScanResult(9, (Item(b"i/1", b"\xff", 4, 4, 1),), 1, b"i/2"),
        ScanResult(9, (Item(b"j", b"", 4, 4, 1),), 1),
        TxnResult(False, 9, (None,)),
    ),
)


def test_the_answer_for_people() -> None:
    assert list(result_lines(PROGRAM, ANSWER)) == [
        "then, revision 9",
        "  put a",
        "  get b: tab\\there",
        "  get c: not found",
        "  delete d: not found",
        "  delete prefix e/: 3 deleted",
        "  delete from f to g: 0 deleted",
        "  incr h: 44",
        "  scan prefix i/: 1 and more",
        "    i/1\t\\xff",
        "  scan from j: 1",
        "    j",
        "  txn: else, revision 9",
        "    get k: not found",
    ]


def test_the_answer_for_programs() -> None:
    answer = json.loads(json.dumps(json_result(PROGRAM, ANSWER)))
    assert (answer["succeeded"], answer["revision"]) == (True, 9)
    assert [result["operation"] for result in answer["results"]] == [
        describe(operation).split()[0] for operation in PROGRAM.then
    ]
    put, b, c, d, e, _, h, i, j, nested = answer["results"]
    assert put["revision"] == 9
    assert b["item"]["value"] == "tab\there"
    assert c["item"] is None
    assert (d["deleted"], e["deleted"], h["value"]) == (0, 3, 44)
    assert (i["items"][0]["value_encoding"], i["next_key"]) == ("base64", "i/2")
    assert "value" not in j["items"][0]
    assert "next_key" not in j
    assert (nested["succeeded"], nested["results"]) == (False, [{"operation": "get", "item": None}])


def test_the_other_branch() -> None:
    answer = TxnResult(False, 9, (None,))
    assert list(result_lines(PROGRAM, answer)) == ["else, revision 9", "  get a: not found"]
