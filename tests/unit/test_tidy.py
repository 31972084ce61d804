"""The house rules that a machine can judge, over the source text of the project.

Each rule is a function from one parsed file, or from all of them, to complaints; a complaint says
where it is, what is wrong and what to do about it. The first test runs every rule over the tree.
The second shows every rule something that it must refuse, because a rule that cannot object guards
nothing.

What other tools judge is not repeated here: layout and style (ruff), types (mypy), which module may
import which (import-linter). The words that no name may contain come from the glossary.
"""

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("client", "server", "cli", "proto")

FILE_LINES_MAX = 500
PROTOCOL_FILE_LINES_MAX = 800
PROTOCOL_FILES = {"raft.py", "paxos.py"}
FUNCTION_LINES_MAX = 60
DOCSTRING_LENGTH_MIN = 200
SHORT_MODULE_LINES = 20
SHORT_DOCSTRING_LENGTH_MIN = 30

ENTRY_POINTS = {
    "kvorum",
    "kvorum_cli.main",
    "kvorum_server.__main__",
    "kvorum_server.storage.memory",
}
"""Modules that others import or start: users, pip's scripts, the simulator."""

RUN_AS_A_PROCESS = {"kvorum_server.__main__"}
"""Modules whose tests start them instead of importing them."""

MAY_SKIP = {"tests/chaos/permission.py"}
"""The one file that may skip a test, for one reason: a machine that forbids network namespaces."""

GIVEN_NAMES = {"tmp_path", "tmp_path_factory"}
"""Names with a banned word that somebody else has given (pytest's fixtures)."""

HOMES: dict[str, tuple[str, ...]] = {
    "click": ("kvorum_cli",),
    "google_crc32c": ("kvorum_server.storage", "kvorum_server.snapshot"),
    "grpc": ("kvorum._channel", "kvorum_server.rpc", "kvorum_server.node"),
    "grpc_health": ("kvorum_server.rpc", "kvorum_server.node"),
    "grpc_reflection": ("kvorum_server.rpc", "kvorum_server.node"),
    "rich": ("kvorum_cli",),
    "rocksdict": ("kvorum_server.storage.rocksdb",),
    "structlog": ("kvorum_server.__main__", "kvorum_server.node", "kvorum_server.logs"),
    "uvloop": ("kvorum_server.__main__", "kvorum_cli.load"),
}
"""Where each dependency lives: it can be replaced there, and is missed nowhere else."""


@dataclass(frozen=True)
class Source:
    """One Python file of the project; ``path`` is relative to the root."""

    path: Path
    text: str
    tree: ast.Module = field(repr=False)

    @classmethod
    def of(cls, path: str | Path, text: str) -> "Source":
        return cls(Path(path), text, ast.parse(text, str(path)))

    @property
    def is_product(self) -> bool:
        return self.path.parts[0] in PRODUCT

    @property
    def is_test(self) -> bool:
        return self.path.parts[0] == "tests"

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def module(self) -> str:
        parts = self.path.with_suffix("").parts[1 if self.is_product else 0 :]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        return self.module if self.path.name == "__init__.py" else self.module.rpartition(".")[0]

    def imports(self) -> set[str]:
        """Every module named by an import; for ``from a import b`` both ``a`` and ``a.b``."""
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = self.package.split(".")[: 1 - node.level or None]
                    base = ".".join([*above, base] if base else above)
                names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        return names

    def at(self, node: ast.AST | int, complaint: str) -> str:
        line = node if isinstance(node, int) else getattr(node, "lineno", 1)
        return f"{self.path}:{line}: {complaint}"


Rule = Callable[[Source], Iterator[str]]
TreeRule = Callable[[Sequence[Source]], Iterator[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def dotted(node: ast.AST) -> str:
    """``time.sleep`` for the expression of that spelling; empty for others."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


@cache
def banned_words() -> dict[str, str]:
    """Word -> what to say instead, from the last table of the glossary."""
    text = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    _, heading, section = text.partition("## Words that name nothing here")
    assert heading, "docs/glossary.md has lost its section of banned words"
    rows = re.findall(r"^\| ([a-z]+) \| (.+) \|$", section, re.MULTILINE)
    return {word: instead for word, instead in rows if word != "never"}


# --- Rules about one file ---


def file_is_short(source: Source) -> Iterator[str]:
    is_protocol = source.path.name in PROTOCOL_FILES
    limit = PROTOCOL_FILE_LINES_MAX if is_protocol else FILE_LINES_MAX
    if len(source.lines) > limit:
        yield source.at(
            limit, f"{len(source.lines)} lines, at most {limit}: give the second job its own module"
        )


def functions_are_short(source: Source) -> Iterator[str]:
    for function in functions(source.tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES_MAX:
            yield source.at(
                function,
                f"{function.name} has {length} lines, at most {FUNCTION_LINES_MAX}: "
                "keep the branches here and move straight lines into functions",
            )


def names_are_in_the_glossary(source: Source) -> Iterator[str]:
    for node, name in defined_names(source):
        for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name):
            instead = banned_words().get(word.lower())
            if instead and name not in GIVEN_NAMES:
                yield source.at(
                    node, f"{name}: not {word.lower()!r} but {instead} (docs/glossary.md)"
                )


def defined_names(source: Source) -> Iterator[tuple[ast.AST | int, str]]:
    yield 1, source.path.stem
    for node in ast.walk(source.tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node, node.name
            case ast.arg():
                yield node, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node, node.attr


def nothing_is_left_to_do(source: Source) -> Iterator[str]:
    for number, line in enumerate(source.lines, 1):
        if re.search(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b", line):
            yield source.at(
                number, "a note of unfinished work: do it, or say what is left out and why"
            )


def module_has_an_essay(source: Source) -> Iterator[str]:
    if not source.tree.body:
        return
    docstring = ast.get_docstring(source.tree) or ""
    is_short = source.is_test or len(source.lines) - docstring.count("\n") <= SHORT_MODULE_LINES
    least = SHORT_DOCSTRING_LENGTH_MIN if is_short else DOCSTRING_LENGTH_MIN
    if len(docstring) < least:
        yield source.at(
            1,
            f"a module docstring of {len(docstring)} characters, at least {least}: "
            "say what the module is for, what always holds, and what it leaves out",
        )


def exceptions_are_named(source: Source) -> Iterator[str]:
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = dotted(node.type) if node.type else "everything"
        goes_on = not isinstance(node.body[-1], ast.Raise)
        comment = source.lines[node.lineno - 1].partition("#")[2]
        reason = re.sub(r"noqa: BLE001[ -]*", "", comment).strip()
        if caught in {"everything", "Exception", "BaseException"} and goes_on and not reason:
            yield source.at(
                node,
                f"catches {caught} and goes on: name the exceptions, end with a raise, "
                "or say in a comment on this line where the failure goes",
            )


def nothing_sleeps(source: Source) -> Iterator[str]:
    if source.path.parts[:2] == ("tests", "bench"):
        return  # measures, judges nothing, and may pace itself
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and dotted(node.func) in {"time.sleep", "sleep"}:
            yield source.at(node, "sleeps: wait for the event itself, with a deadline")


def nothing_is_a_stub(source: Source) -> Iterator[str]:
    contracts = [
        node
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef) and any("Protocol" in ast.unparse(b) for b in node.bases)
    ]
    promised = {id(function) for contract in contracts for function in functions(contract)}
    for function in functions(source.tree):
        rest = function.body[1:] if ast.get_docstring(function) else function.body
        overloaded = any(dotted(d).endswith("overload") for d in function.decorator_list)
        if id(function) not in promised and not overloaded and rest and all(map(is_nothing, rest)):
            yield source.at(
                function,
                f"{function.name} is a stub: write it, or leave a docstring that says why not",
            )


def is_nothing(statement: ast.stmt) -> bool:
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return True
        case ast.Raise(exc=ast.Name(id=name) | ast.Call(func=ast.Name(id=name))):
            return name == "NotImplementedError"
    return False


def nothing_is_mocked(source: Source) -> Iterator[str]:
    for name in sorted(source.imports()):
        if source.is_test and name.split(".")[-1] in {"mock", "pytest_mock", "Mock", "patch"}:
            yield source.at(
                1, f"imports {name}: test our own code through the seam production uses"
            )


def no_test_is_skipped(source: Source) -> Iterator[str]:
    if not source.is_test or source.path.as_posix() in MAY_SKIP:
        return
    for node in ast.walk(source.tree):
        name = dotted(node).removeprefix("pytest.").removeprefix("mark.")
        if isinstance(node, ast.Attribute) and name in {"skip", "xfail", "importorskip"}:
            yield source.at(
                node, "a test that does not run proves nothing: make it run or remove it"
            )


def every_test_asserts(source: Source) -> Iterator[str]:
    if not source.path.name.startswith("test_"):
        return
    judges = {function.name for function in functions(source.tree) if judges_itself(function)}
    while True:
        found = {f.name for f in functions(source.tree) if calls(f) & judges} - judges
        if not found:
            break
        judges |= found
    for function in functions(source.tree):
        if function.name.startswith("test_") and function.name not in judges:
            yield source.at(function, f"{function.name} asserts nothing, so it cannot fail")


def judges_itself(function: Function) -> bool:
    if any(isinstance(node, ast.Assert) for node in ast.walk(function)):
        return True
    judging = re.compile(r"(assert|check|expect|verify|raises|fail|run_script)(_|$)")
    return any(judging.match(name) for name in calls(function))


def calls(function: Function) -> set[str]:
    """Last names of everything that a function calls: ``pytest.raises`` gives ``raises``."""
    made = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    return {dotted(func).rpartition(".")[2] for func in made}


def dependencies_are_at_home(source: Source) -> Iterator[str]:
    for dependency in sorted({name.partition(".")[0] for name in source.imports()} & set(HOMES)):
        homes = HOMES[dependency]
        if source.is_product and not any(is_within(source.module, home) for home in homes):
            yield source.at(1, f"imports {dependency}, which lives in {', '.join(homes)} only")


def is_within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


# --- Rules about the whole tree ---


def every_module_is_alive(sources: Sequence[Source]) -> Iterator[str]:
    imported: set[str] = set()
    for source in sources:
        if source.is_product:
            texts = (n.value for n in ast.walk(source.tree) if isinstance(n, ast.Constant))
            imported |= (source.imports() | {t for t in texts if isinstance(t, str)}) - {
                source.module
            }
    packages = {name.rpartition(".")[0] for name in imported}
    for source in sources:
        alive = source.module in imported | packages | ENTRY_POINTS
        if source.is_product and source.path.name != "__init__.py" and not alive:
            yield source.at(1, f"nobody imports {source.module}: delete it or use it")


def every_module_is_tested(sources: Sequence[Source]) -> Iterator[str]:
    imported = set().union(*(source.imports() for source in sources if source.is_test))
    for source in sources:
        has_code = any(True for _ in functions(source.tree))
        wanted = source.is_product and has_code and source.module not in RUN_AS_A_PROCESS
        if wanted and source.module not in imported:
            yield source.at(1, f"no test imports {source.module}: give it a module in tests/")


FILE_RULES: tuple[Rule, ...] = (
    file_is_short,
    functions_are_short,
    names_are_in_the_glossary,
    nothing_is_left_to_do,
    module_has_an_essay,
    exceptions_are_named,
    nothing_sleeps,
    nothing_is_a_stub,
    nothing_is_mocked,
    no_test_is_skipped,
    every_test_asserts,
    dependencies_are_at_home,
)
TREE_RULES: tuple[TreeRule, ...] = (every_module_is_alive, every_module_is_tested)


@cache
def project() -> tuple[Source, ...]:
    paths = (path for top in (*PRODUCT, "tests") for path in sorted((ROOT / top).rglob("*.py")))
    return tuple(
        Source.of(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
        for path in paths
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py"))
    )


@pytest.mark.parametrize("rule", FILE_RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    complaints = [complaint for source in project() for complaint in rule(source)]
    assert not complaints, "\n".join(["", *complaints])


@pytest.mark.parametrize("rule", TREE_RULES, ids=lambda rule: rule.__name__)
def test_the_tree_keeps_the_rule(rule: TreeRule) -> None:
    complaints = list(rule(project()))
    assert not complaints, "\n".join(["", *complaints])


OFFENCES: tuple[tuple[Rule, str, str], ...] = (
    (file_is_short, "server/kvorum_server/x.py", "x = 1\n" * 501),
    (file_is_short, "server/kvorum_server/consensus/raft.py", "x = 1\n" * 801),
    (functions_are_short, "tests/x.py", "def f():\n" + "    x = 1\n" * 60),
    (names_are_in_the_glossary, "server/kvorum_server/x.py", "class ShardMap: ..."),
    (names_are_in_the_glossary, "server/kvorum_server/x.py", "def f(self, slot): ..."),
    (names_are_in_the_glossary, "server/kvorum_server/x.py", "self.region_count = 1"),
    (names_are_in_the_glossary, "server/kvorum_server/utils.py", "x = 1"),
    (nothing_is_left_to_do, "server/kvorum_server/x.py", "# TO" + "DO: everything"),
    (module_has_an_essay, "server/kvorum_server/x.py", '"""Things."""\n' + "x = 1\n" * 30),
    (module_has_an_essay, "tests/x.py", "x = 1"),
    (exceptions_are_named, "cli/kvorum_cli/x.py", "try: f()\nexcept Exception: g()"),
    (exceptions_are_named, "cli/kvorum_cli/x.py", "try: f()\nexcept: g()"),
    (nothing_sleeps, "tests/x.py", "time.sleep(1)"),
    (nothing_is_a_stub, "client/kvorum/x.py", "def f():\n    pass"),
    (nothing_is_a_stub, "client/kvorum/x.py", "def f():\n    raise NotImplementedError('later')"),
    (nothing_is_mocked, "tests/x.py", "from unittest.mock import patch"),
    (no_test_is_skipped, "tests/x.py", "@pytest.mark.skip\ndef test_x(): assert x"),
    (every_test_asserts, "tests/unit/test_x.py", "def test_x():\n    f()\ndef f(): return 1"),
    (dependencies_are_at_home, "server/kvorum_server/host.py", "import grpc"),
)


@pytest.mark.parametrize(("rule", "path", "text"), OFFENCES, ids=lambda value: str(value)[:40])
def test_every_rule_about_a_file_can_object(rule: Rule, path: str, text: str) -> None:
    assert list(rule(Source.of(path, text)))


def test_no_rule_is_without_an_offence() -> None:
    assert {rule for rule, _, _ in OFFENCES} == set(FILE_RULES)


def test_a_module_that_nobody_imports_is_found() -> None:
    alone = Source.of("server/kvorum_server/alone.py", "def f(): return 1")
    user = Source.of("server/kvorum_server/__main__.py", "from kvorum_server import used")
    used = Source.of("server/kvorum_server/used.py", "def f(): return 1")
    test = Source.of("tests/unit/test_used.py", "from kvorum_server.used import f")
    assert [text.split(":")[0] for text in every_module_is_alive([alone, user, used])] == [
        "server/kvorum_server/alone.py"
    ]
    assert [text.split(":")[0] for text in every_module_is_tested([alone, used, test])] == [
        "server/kvorum_server/alone.py"
    ]


def test_relative_imports_are_understood() -> None:
    source = Source.of("server/kvorum_server/kv/x.py", "from . import y\nfrom ..types import Z")
    assert {"kvorum_server.kv.y", "kvorum_server.types"} <= source.imports()
