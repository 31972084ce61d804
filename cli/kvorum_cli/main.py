"""The console script ``kvorum``: the verbs put together, and the one place where they end.

Click parses; everything that it would print about a mistake is made one line here, because a line
can be read in a log and a screen of usage cannot. The rule for what a shell gets to see: a result
on standard output; one line ``kvorum: ...`` on standard error when there is none; the code of
``exits.Exit``. A reader that goes away (``kvorum scan | head``) ends the verb silently. An
exception that no module expects is a bug of ours: it keeps its traceback, and its code cannot be
mistaken for "not found".
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from kvorum_cli.backup import backup
from kvorum_cli.bench import bench
from kvorum_cli.cluster import compact, status
from kvorum_cli.completion import completion
from kvorum_cli.exits import Exit, OutputClosed, Stop
from kvorum_cli.kv import cas, delete, get, incr, put, scan
from kvorum_cli.member import member
from kvorum_cli.output import write_note
from kvorum_cli.settings import Verbs, show_help_without_verb
from kvorum_cli.txn import txn
from kvorum_cli.up import down, up
from kvorum_cli.verify import verify

PROGRAM = "kvorum"
VERBS = (
    up, down, put, get, delete, scan, cas, incr, txn, status, member, compact, verify, backup,
    bench, completion,
)  # fmt: skip


@click.group(cls=Verbs, context_settings={"help_option_names": ["--help", "-h"]})
@click.pass_context
def cli(context: click.Context) -> None:
    """A replicated key-value server: start a cluster, use it, look at it.

    'kvorum up' starts three nodes on this machine; from a second shell, 'kvorum put greeting hello'
    and 'kvorum get greeting'. 'kvorum VERB --help' explains a verb.
    """
    show_help_without_verb(context)


for _verb in VERBS:
    cli.add_command(_verb)


def main() -> None:
    """Runs the command line of this process and exits."""
    # A shell that closes a stream (``>&-``) means that nobody reads or writes it.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - for the life of the process
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; the exit code. Prints, and never raises but for ``SystemExit``."""
    try:
        code = cli.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except Stop as stop:
        return _end(stop.code, str(stop))
    except click.UsageError as error:
        return _end(Exit.USAGE, usage_line(error))
    except click.ClickException as error:
        return _end(Exit.USAGE, error.format_message())
    except (click.Abort, KeyboardInterrupt):
        return _end(Exit.INTERRUPTED, "interrupted")
    except (OutputClosed, BrokenPipeError):
        _forget_output()
        return Exit.OUTPUT_CLOSED
    except OSError as error:
        _forget_output()
        return _end(Exit.INPUT_OUTPUT, f"cannot read or write: {error.strerror or error}")
    except Exception:  # noqa: BLE001 - reported in full on standard error, with the exit code of a bug
        traceback.print_exc()
        return _end(Exit.BUG, "this is a bug of kvorum, please report it with the lines above")
    return code if isinstance(code, int) else Exit.OK


def usage_line(error: click.UsageError) -> str:
    """A mistake in a command line, as one line that says where to read more."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.NoSuchOption) and error.option_name[1:2].isdigit():
        message += "; a value that begins with a dash goes after --"
    message = message.replace("'. Did you mean", "'; did you mean")
    path = error.ctx.command_path if error.ctx else PROGRAM
    verb = path.removeprefix(PROGRAM).strip()
    message = message[:1].lower() + message[1:]
    see = " See" if message.endswith("?") else "; see"
    return f"{verb + ': ' if verb else ''}{message}{see} '{path} --help'"


def _end(code: Exit, line: str) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        _forget_output()
    if line:
        write_note(line)
    return code


def _forget_output() -> None:
    """Lets the interpreter flush what is left of the output into nothing at its exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
