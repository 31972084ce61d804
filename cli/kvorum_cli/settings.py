"""What may stand before or after every verb, and how a verb reaches the cluster.

``kvorum --output json get x`` and ``kvorum get x --output json`` are the same: every command
carries the options of :func:`_global_options`, each of which replaces one field of the
:class:`Settings` kept in the root context, so the later one wins. A verb reads them with
:func:`settings` and calls the cluster through :func:`call`, which opens a client, translates the
errors of the SDK and closes it.

:class:`Verb` and :class:`Verbs` are what click's Command and Group lack: the global options in a
section of their own, examples at the end of the help, and a suggestion for a mistyped verb.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvorum_cli.exits import OutputClosed, stop_for

if TYPE_CHECKING:
    from kvorum import AsyncClient

    _IntegerType = click.ParamType[int]
else:
    _IntegerType = click.ParamType  # generic since click 8.5 only

T = TypeVar("T")

INT64_MAX = (1 << 63) - 1
DATA_DEFAULT = "./kvorum-data"
"""What ``kvorum up`` and ``kvorum down`` mean when nobody says where."""
ENDPOINTS_VARIABLE = "KVORUM_ENDPOINTS"
DEFAULT_ENDPOINTS = "127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402"
"""Where ``kvorum up`` starts a cluster, as the SDK has it; importing that would import gRPC."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The global options; ``endpoints`` is None until somebody says where the cluster is."""

    endpoints: str | None = None
    timeout_seconds: float = 5.0
    output: str = "text"
    color: bool | None = None

    @property
    def json(self) -> bool:
        """Whether the answer is for a program."""
        return self.output == "json"

    @property
    def endpoints_or_default(self) -> str:
        """Where the cluster is: option, environment, or the ports of ``kvorum up``."""
        return self.endpoints or os.environ.get(ENDPOINTS_VARIABLE) or DEFAULT_ENDPOINTS

    @property
    def endpoints_given(self) -> bool:
        """Whether somebody said where the cluster is."""
        return self.endpoints_or_default != DEFAULT_ENDPOINTS


def settings() -> Settings:
    """The settings of the verb that runs."""
    root = click.get_current_context().find_root()
    return root.obj if isinstance(root.obj, Settings) else Settings()


def call(operation: Callable[[AsyncClient], Awaitable[T]], about: str = "") -> T:
    """Runs an operation with a client of the cluster. Raises Stop when it fails.

    ``about`` is what the verb works on, for the line that says why the cluster refused it.
    """
    import asyncio

    from kvorum import AsyncClient, KvorumError

    chosen = settings()

    async def attend() -> T:
        async with AsyncClient(
            chosen.endpoints_or_default, timeout=chosen.timeout_seconds
        ) as client:
            return await operation(client)

    try:
        return asyncio.run(attend())
    except KvorumError as error:
        verb = click.get_current_context().info_name or ""
        subject = f"{verb} {about}".strip()
        raise stop_for(error, subject, endpoints_given=chosen.endpoints_given) from None


# --- The options ---


def _remember(field: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def callback(context: click.Context, _parameter: click.Parameter, value: Any) -> None:
        root = context.find_root()
        present = root.obj if isinstance(root.obj, Settings) else Settings()
        root.obj = present if value is None else dataclasses.replace(present, **{field: value})

    return callback


def check_endpoints(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Refuses what the SDK would refuse later, as a mistake in the command line."""
    for endpoint in (value or "").split(","):
        port = endpoint.strip().rpartition(":")[2]
        if value is not None and not (
            ":" in endpoint and port.isdecimal() and 0 < int(port) < 65536
        ):
            raise click.BadParameter(f"{endpoint!r} must be host:port", context, parameter)
    _remember("endpoints")(context, parameter, value)


def _check_timeout(context: click.Context, parameter: click.Parameter, value: float | None) -> None:
    if value is not None and not (0 < value < math.inf):
        raise click.BadParameter(f"{value:g} must be more than 0 seconds", context, parameter)
    _remember("timeout_seconds")(context, parameter, value)


def _show_version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        click.echo(f"kvorum {version()}")
        context.exit()


def version() -> str:
    """The version of the installed distribution."""
    from importlib import metadata

    return metadata.version("kvorum")


def _global_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--endpoints"],
            metavar="HOST:PORT,...",
            expose_value=False,
            callback=check_endpoints,
            help=f"Nodes of the cluster; also {ENDPOINTS_VARIABLE}. [{DEFAULT_ENDPOINTS}]",
        ),
        click.Option(
            ["--timeout"],
            type=float,
            metavar="SECONDS",
            expose_value=False,
            callback=_check_timeout,
            help="How long to wait for each answer of the cluster. [5]",
        ),
        click.Option(
            ["--output", "-o"],
            type=click.Choice(["text", "json"]),
            expose_value=False,
            callback=_remember("output"),
            help="text for people, json for programs: one object. [text]",
        ),
        click.Option(
            ["--color/--no-color"],
            default=None,
            expose_value=False,
            callback=_remember("color"),
            help="Colours in tables. [on terminals, unless NO_COLOR is set]",
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and stop.",
        ),
    ]


# --- Commands ---


class Number(_IntegerType):
    """An integer within bounds, both included."""

    name = "integer"

    def __init__(self, least: int, most: int = INT64_MAX) -> None:
        self.least = least
        self.most = most

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> int:
        """The number of a word."""
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is not an integer", parameter, context)
        if not self.least <= number <= self.most:
            small = self.least >= 0 and self.most == INT64_MAX and number < self.least
            bounds = f"at least {self.least}" if small else f"from {self.least} to {self.most}"
            self.fail(f"{number} must be {bounds}", parameter, context)
        return number


class Verb(click.Command):
    """A command with global options and examples."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.global_options = _global_options()
        self.params.extend(self.global_options)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the verb, then those of all verbs."""
        _format_options(self, self.global_options, context, formatter)

    def format_epilog(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The examples, line by line as they are written."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")


class Verbs(click.Group):
    """A group of verbs with global options; knows what a mistyped one was meant to be."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs = {"subcommand_metavar": "VERB ...", **kwargs}
        super().__init__(*args, **{"invoke_without_command": True, **kwargs})
        self.global_options = _global_options()
        self.params.extend(self.global_options)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parses, perhaps prints help; a reader that goes away is told to ``main``, not click."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError:
            raise OutputClosed from None

    def invoke(self, context: click.Context) -> Any:
        """Runs the verb; the same for its reader."""
        try:
            return super().invoke(context)
        except BrokenPipeError:
            raise OutputClosed from None

    def list_commands(self, _context: click.Context) -> list[str]:
        """In the order in which they were added."""
        return list(self.commands)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs, then the options."""
        self.format_commands(context, formatter)
        _format_options(self, self.global_options, context, formatter)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb; a mistyped one is a usage error that suggests the nearest."""
        word = args[0]
        if word in self.commands or word.startswith("-") or context.resilient_parsing:
            return super().resolve_command(context, args)
        near = difflib.get_close_matches(word, self.commands, n=2, cutoff=0.5)
        suggestion = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise click.UsageError(f"there is no verb {word!r}{suggestion}", context)


def show_help_without_verb(context: click.Context) -> None:
    """What a group does by itself: with a verb nothing, without one it explains itself."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _format_options(
    command: click.Command,
    global_options: list[click.Parameter],
    context: click.Context,
    formatter: click.HelpFormatter,
) -> None:
    sections: tuple[tuple[str, list[click.Parameter]], ...] = (
        ("Options", [p for p in command.get_params(context) if p not in global_options]),
        ("Global options", global_options),
    )
    for title, parameters in sections:
        records = [record for p in parameters if (record := p.get_help_record(context))]
        if records:
            with formatter.section(title):
                formatter.write_dl(records)
