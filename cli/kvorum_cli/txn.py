"""The verb txn: conditions and operations from a file, applied in one atomic step.

The text is read and understood as a whole before anything is sent (``txn_text``). The answer says
which branch ran and what each of its operations gave, in their order. Conditions that do not hold
are no failure of the txn, but they are what a script wants to know: then the exit code is that of a
conflict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvorum_cli.exits import Exit, Stop
from kvorum_cli.kv import STANDARD_INPUT, item_line, read_file
from kvorum_cli.output import escape, json_field, json_item, write_json, write_line
from kvorum_cli.settings import Verb, call, settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvorum import Operation, OperationResult, Txn, TxnResult


@click.command(
    cls=Verb,
    examples="""
    kvorum txn --file transfer.txn
    printf 'when\\n absent a\\nthen\\n put a 1\\n' | kvorum txn
    """,
)
@click.option(
    "--file",
    default=STANDARD_INPUT,
    metavar="PATH",
    help="The text of the txn. [-: standard input]",
)
def txn(file: str) -> None:
    """Apply operations in one step, if conditions hold.

    \b
    when                          # all conditions hold: 'then', else 'else'
      value greeting = hello      # value, version, create_revision, mod_revision
      version visits > 3          # with = != < >
      absent lock/nightly         # or: exists KEY
    then
      put greeting "good bye"     # in quotes: \\" \\\\ \\n \\t \\r \\xNN
      incr visits by 2 min 0 max 100
      delete prefix session/      # or: delete KEY, delete from A to B
    else
      get greeting
      scan prefix session/ limit 10 reverse keys-only count
      txn                         # a txn in a txn, up to 'end'
      then
        put retries 1
      end

    Exits with 3 when the conditions did not hold and 'else' ran.
    """
    from kvorum_cli.txn_text import TxnSyntaxError, parse

    name = "standard input" if file == STANDARD_INPUT else file
    try:
        program = parse(read_file(file).decode(errors="surrogateescape"))
    except TxnSyntaxError as error:
        raise Stop(Exit.USAGE, f"{name}, line {error.line}: {error}") from None
    result = call(
        lambda client: client.txn(when=program.when, then=program.then, otherwise=program.otherwise)
    )
    if settings().json:
        write_json(json_result(program, result))
    else:
        for line in result_lines(program, result):
            write_line(line)
    if not result.succeeded:
        raise Stop(Exit.CONFLICT)


# --- What came of it ---


def operations_that_ran(program: Txn, result: TxnResult) -> Sequence[Operation]:
    """The branch that the cluster chose; there is one result for each of its operations."""
    branch = program.then if result.succeeded else program.otherwise
    assert len(branch) == len(result.results), "an operation of a txn has one result"
    return branch


def result_lines(program: Txn, result: TxnResult) -> Iterator[str]:
    """The result for people: the branch, then a line or more for each operation."""
    branch = "then" if result.succeeded else "else"
    yield f"{branch}, revision {result.revision}"
    for operation, answer in zip(operations_that_ran(program, result), result.results, strict=True):
        for line in _answer_lines(operation, answer):
            yield f"  {line}"


def _answer_lines(operation: Operation, answer: OperationResult) -> Iterator[str]:
    from kvorum import DeleteRangeResult, DeleteResult, Item, PutResult, Scan, ScanResult, Txn
    from kvorum import TxnResult as Result

    title = describe(operation)
    match answer:
        case PutResult():
            yield title
        case DeleteResult():
            yield title if answer.deleted else f"{title}: not found"
        case DeleteRangeResult():
            yield f"{title}: {answer.deleted} deleted"
        case ScanResult():
            yield f"{title}: {answer.count}{' and more' if answer.more else ''}"
            assert isinstance(operation, Scan), "a scan answers a scan"
            for item in answer.items:
                yield f"  {item_line(item, keys_only=operation.keys_only)}"
        case Result():
            assert isinstance(operation, Txn), "a txn answers a txn"
            nested = result_lines(operation, answer)
            yield f"{title}: {next(nested)}"
            yield from nested
        case Item():
            yield f"{title}: {escape(answer.value)}"
        case None:
            yield f"{title}: not found"
        case _:
            yield f"{title}: {answer}"


def describe(operation: Operation) -> str:
    """An operation in the words of the text that it came from."""
    from kvorum import Delete, DeleteRange, Get, Increment, Put, Scan

    match operation:
        case Put(key=key):
            return f"put {_shown(key)}"
        case Get(key=key):
            return f"get {_shown(key)}"
        case Delete(key=key):
            return f"delete {_shown(key)}"
        case Increment(key=key):
            return f"incr {_shown(key)}"
        case DeleteRange() | Scan():
            verb = "scan" if isinstance(operation, Scan) else "delete"
            if operation.prefix is not None:
                return f"{verb} prefix {_shown(operation.prefix)}"
            start = f" from {_shown(operation.start)}" if operation.start is not None else ""
            end = f" to {_shown(operation.end)}" if operation.end is not None else ""
            return f"{verb}{start}{end}"
        case _:
            return "txn"


def _shown(key: str | bytes) -> str:
    return escape(key.encode() if isinstance(key, str) else key)


def json_result(program: Txn, result: TxnResult) -> dict[str, object]:
    """The result for programs."""
    return {
        "succeeded": result.succeeded,
        "revision": result.revision,
        "results": [
            {"operation": describe(operation).partition(" ")[0], **_json_answer(operation, answer)}
            for operation, answer in zip(
                operations_that_ran(program, result), result.results, strict=True
            )
        ],
    }


def _json_answer(operation: Operation, answer: OperationResult) -> dict[str, object]:
    from kvorum import DeleteRangeResult, DeleteResult, Item, PutResult, Scan, ScanResult, Txn
    from kvorum import TxnResult as Result

    match answer:
        case PutResult():
            return {"revision": answer.revision}
        case DeleteResult() | DeleteRangeResult():
            return {"deleted": int(answer.deleted)}
        case ScanResult():
            assert isinstance(operation, Scan), "a scan answers a scan"
            items = [json_item(item, keys_only=operation.keys_only) for item in answer.items]
            more = json_field("next_key", answer.next_key) if answer.more else {}
            return {"items": items, "count": answer.count, **more}
        case Result():
            assert isinstance(operation, Txn), "a txn answers a txn"
            return json_result(operation, answer)
        case Item():
            return {"item": json_item(answer)}
        case None:
            return {"item": None}
        case _:
            return {"value": answer}
