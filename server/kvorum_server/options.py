"""How a Config comes about: flags over environment over a TOML file over defaults.

Every field of :class:`~kvorum_server.config.Config` is a flag (``--tick-ms``), an environment
variable (``KVORUM_TICK_MS``) and a TOML key (``tick_ms``); nothing else is an option, and no option
has a second name. A node that starts with a typo in its configuration runs with a default that
nobody chose, so an unknown flag, key or variable is an error that names the nearest option. What is
wrong is said in one line: where the value stood, what it is, what it must be.

Two kinds of variables begin like ours and are let be: those of the client, and the addresses that
Kubernetes puts into every container beside a service called ``kvorum``
(``KVORUM_PORT_7400_TCP``...).

Sizes may be written with KiB, MiB or GiB and times with ms, s, min or h: ``64MiB``, ``10min``. The
unit without a suffix is the one in the option's name. ``~`` and variables in paths are left to the
shell.
"""

import argparse
import dataclasses
import difflib
import re
import textwrap
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from kvorum_server.config import Config, ConfigError
from kvorum_server.initial_cluster import InitialCluster, check_name, parse_addresses, split_address

PREFIX = "KVORUM_"

CLIENT_VARIABLES = frozenset({"KVORUM_ENDPOINTS", "KVORUM_FENCING_TOKEN"})
"""Read or set by the client library and the command line, not by a node."""

GROUPS: Mapping[str, str] = {
    "name": "Identity and place",
    "tick_ms": "Time",
    "key_bytes_max": "Requests",
    "session_idle_ms": "Sessions",
    "log_bytes_max": "Log, checkpoints, snapshots",
    "append_bytes_max": "Replication",
    "history_revisions_max": "State",
    "switch_interval_us": "Process",
}
"""Headings of the help text and of the documentation, by the first option under each."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "consensus": ("raft",),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("console", "json"),
}

_KUBERNETES_VARIABLE = re.compile(
    r"KVORUM_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)"
)
_AMOUNT = re.compile(r"(-?[0-9]{1,18}) ?([A-Za-z]*)")
_SUFFIXES: Mapping[str, Mapping[str, int]] = {
    "bytes": {"GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10},
    "ms": {"h": 3_600_000, "min": 60_000, "s": 1000, "ms": 1},
    "us": {},
    "ticks": {},
    "number": {},
}
_TEXT_CHECKS: Mapping[str, Callable[[str], object]] = {
    "name": check_name,
    "listen": split_address,
    "initial_cluster": InitialCluster.parse,
    "join": parse_addresses,
}
_OPTIONS: Mapping[str, "dataclasses.Field[object]"] = {
    option.name: option for option in dataclasses.fields(Config)
}


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as somebody wrote it, and where it stood, in the words of an error message."""

    origin: str
    value: object

    def refuse(self, expectation: str) -> ConfigError:
        return ConfigError(f"{self.origin} is {self.value!r}; it must be {expectation}")


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """The Config of a node from its command line (without the program's name) and environment.

    Raises :class:`ConfigError` with one line for people; ``--help`` and ``--version`` print and
    raise ``SystemExit(0)``.

    >>> load(["--tick-ms", "10"], {"KVORUM_TICK_MS": "50", "KVORUM_LOG_BYTES_MAX": "1GiB"}).tick_ms
    10
    """
    written = {**_from_environment(environment), **_from_flags(arguments)}
    file = written.pop("config", None)
    given = {**_from_file(file), **written} if file else written
    values = {name: _convert(name, entry) for name, entry in given.items()}
    try:
        config = Config(**values)  # type: ignore[arg-type]  # each was converted to its field's type
        _check_place(config)
    except ConfigError as error:
        raise ConfigError(_with_origins(str(error), given)) from None
    return config


def flag_of(name: str) -> str:
    """The flag of an option: ``tick_ms`` -> ``--tick-ms``."""
    return "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of an option: ``tick_ms`` -> ``KVORUM_TICK_MS``."""
    return PREFIX + name.upper()


def unit_of(name: str) -> str:
    """What the number of an option counts: bytes, ms, us, ticks, or number for plain counts.

    >>> unit_of("log_bytes_max"), unit_of("sessions_max")
    ('bytes', 'number')
    """
    return next((word for word in name.split("_") if word in _SUFFIXES), "number")


def default_of(name: str) -> str:
    """The default of an option as a user would write it; empty when it is empty.

    >>> default_of("log_bytes_max"), default_of("session_idle_ms"), default_of("name")
    ('64MiB', '10min', 'n1')
    """
    default = _OPTIONS[name].default
    return amount_of(name, default) if isinstance(default, int) else str(default)


def amount_of(name: str, value: int) -> str:
    """A value of a numeric option as a user would write it, with the largest suffix that fits."""
    for suffix, factor in _SUFFIXES[unit_of(name)].items():
        if value > 0 and value % factor == 0:
            return f"{value // factor}{suffix}"
    return str(value)


# --- The three places that values come from ---


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message.removeprefix("argument "))


def _from_flags(arguments: Sequence[str]) -> dict[str, _Given]:
    known, unknown = _parser().parse_known_args(arguments)
    for argument in unknown:
        if not argument.startswith("-"):
            raise ConfigError(f"{argument!r} is not expected: every option begins with --")
        flag = argument.partition("=")[0]
        raise ConfigError(
            f"{flag} is no option" + _suggestion(flag, map(flag_of, [*_OPTIONS, "config"]))
        )
    return {name: _Given(flag_of(name), value) for name, value in vars(known).items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, _Given]:
    names = {variable_of(name): name for name in [*_OPTIONS, "config"]}
    given: dict[str, _Given] = {}
    for variable, value in environment.items():
        if variable in names:
            given[names[variable]] = _Given(variable, value)
        elif (
            variable.startswith(PREFIX)
            and variable not in CLIENT_VARIABLES
            and not _KUBERNETES_VARIABLE.fullmatch(variable)
        ):
            raise ConfigError(f"{variable} is no option" + _suggestion(variable, names))
    return given


def _from_file(file: _Given) -> dict[str, _Given]:
    path = Path(str(file.value))
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file.origin}: cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file.origin}: {path} is not TOML: {error}") from None
    for key, value in values.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"[{key}] in {path} is a table; options stand at the top, without one"
            )
        if key not in _OPTIONS:
            raise ConfigError(f"{key} in {path} is no option" + _suggestion(key, _OPTIONS))
    return {key: _Given(f"{key} in {path}", value) for key, value in values.items()}


def _suggestion(word: str, candidates: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(candidates), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else "; kvorum-server --help lists all options"


# --- From what was written to what is meant ---


def _convert(name: str, given: _Given) -> int | str | Path:
    if _OPTIONS[name].type is int:
        return _convert_amount(name, given)
    if not isinstance(given.value, str):
        raise given.refuse("text in quotes")
    if _OPTIONS[name].type is Path:
        if not given.value:
            raise given.refuse("a path")
        return Path(given.value)
    if name in CHOICES and given.value not in CHOICES[name]:
        raise given.refuse(" or ".join(CHOICES[name]))
    if name in _TEXT_CHECKS and (given.value or _OPTIONS[name].default):
        try:
            _TEXT_CHECKS[name](given.value)
        except ConfigError as error:
            raise ConfigError(f"{given.origin} is {given.value!r}: {error}") from None
    return given.value


def _convert_amount(name: str, given: _Given) -> int:
    suffixes = _SUFFIXES[unit_of(name)]
    minimum = _OPTIONS[name].metadata["minimum"]
    amount = _AMOUNT.fullmatch(str(given.value))
    factor = {"": 1, **suffixes}.get(amount[2]) if amount else None
    if amount is None or factor is None or (value := int(amount[1]) * factor) < minimum:
        with_suffix = f", with or without {', '.join(suffixes)}" if suffixes else ""
        raise given.refuse(f"an integer of at least {minimum}{with_suffix}")
    return value


def _check_place(config: Config) -> None:
    if not config.initial_cluster or config.join:
        return
    names = InitialCluster.parse(config.initial_cluster).addresses
    if config.name not in names:
        raise ConfigError(
            f"name is {config.name!r}; it must be one of those in initial_cluster: "
            + ", ".join(names)
        )


def _with_origins(message: str, given: Mapping[str, _Given]) -> str:
    origins = [entry.origin for name, entry in given.items() if re.search(rf"\b{name}\b", message)]
    return f"{message} (given: {', '.join(origins)})" if origins else message


# --- The help text ---


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kvorum-server",
        usage="kvorum-server [--option value ...]",
        description="One node of a kvorum cluster. `kvorum up` starts several on this machine.",
        epilog=textwrap.dedent(f"""\
            Every option is also an environment variable ({variable_of("tick_ms")}=25) and a
            key of the TOML file (tick_ms = 25). Flags win over the environment, which
            wins over the file, which wins over the defaults, shown in brackets. BYTES may
            be written with KiB, MiB or GiB, MS with ms, s, min or h: 64MiB, 10min.

            Tools for the data directory of a stopped node, each with a --help of its own:
              kvorum-server verify   check it, changing nothing
              kvorum-server recover  skip an entry, or found a new cluster on a lone survivor
              kvorum-server restore  make it from a backup"""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    general = parser.add_argument_group("General")
    general.add_argument("--help", "-h", action="help", help="Show this text and stop.")
    general.add_argument(
        "--version",
        action="version",
        version=f"kvorum-server {metadata.version('kvorum')}",
        help="Show the version and stop.",
    )
    general.add_argument("--config", metavar="FILE", help="A TOML file with options.")
    group = general
    for name, option in _OPTIONS.items():
        if name in GROUPS:
            group = parser.add_argument_group(GROUPS[name])
        group.add_argument(flag_of(name), metavar=_placeholder(name), help=_help(name, option))
    return parser


def _placeholder(name: str) -> str:
    if name in CHOICES:
        return "|".join(CHOICES[name])
    if _OPTIONS[name].type is int:
        return unit_of(name).upper()
    return "DIRECTORY" if _OPTIONS[name].type is Path else "TEXT"


def _help(name: str, option: "dataclasses.Field[object]") -> str:
    text = str(option.metadata["help"])
    default = default_of(name)
    return (f"{text} [{default}]" if default else text).replace("%", "%%")
