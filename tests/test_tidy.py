"""The house's rules about its own code, checked by reading it: sizes, imports, purity, where ctypes and print may be.

Every rule is a function from one source file to what is wrong with it, and every rule is shown to fail on a file that
breaks it: a rule that can't fail says nothing.
"""

from __future__ import annotations

import ast
import functools
import graphlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("agent", "cluster", "kagemusha", "transport")

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500

MAY_IMPORT = {
    "transport": {"transport"},
    "agent": {"agent", "transport"},
    "cluster": {"cluster", "transport"},
    "kagemusha": {"agent", "cluster", "kagemusha", "transport"},
}
STANDALONE = ("kagemusha/structures", "kagemusha/client")
"""Programs import these: they bring nothing of the other three along."""

PURE = {
    "agent/network/connections.py",
    "agent/context/descriptor_words.py",
    "agent/context_view.py",
    "agent/primary/history.py",
    "agent/network/newcomers.py",
    "agent/memory/page_ranges.py",
    "agent/primary/decisions.py",
    "agent/hooks.py",
    "agent/program.py",
    "agent/reason.py",
    "agent/redirect.py",
    "agent/structures/blocks.py",
    "agent/structures/decode.py",
    "agent/structures/layout.py",
    "agent/structures/shape.py",
    "agent/structures/symbol_name.py",
    "agent/structures/table.py",
    "agent/structures/update.py",
    "agent/warm/assembly.py",
    "agent/warm/feed.py",
    "agent/warm/feed_events.py",
    "agent/warm/intake.py",
    "agent/warm/marks.py",
    "agent/warm/patience.py",
    "agent/warm/said.py",
    "agent/warm/subscriber.py",
    "cluster/admin/history.py",
    "cluster/admin/models.py",
    "cluster/admin/openapi.py",
    "cluster/admin/problem.py",
    "cluster/admin/request_body.py",
    "cluster/admin/samples.py",
    "cluster/admin/views.py",
    "cluster/registry/commands.py",
    "cluster/leader/arrival.py",
    "cluster/leader/detector.py",
    "cluster/node/condition.py",
    "cluster/node/round_trips.py",
    "cluster/leader/facts.py",
    "cluster/leader/failover.py",
    "cluster/health/check.py",
    "cluster/health/verdict.py",
    "cluster/leader/lease.py",
    "cluster/leader/news.py",
    "cluster/leader/office.py",
    "cluster/leader/orders.py",
    "cluster/metrics/causes.py",
    "cluster/metrics/table.py",
    "cluster/metrics/tally.py",
    "cluster/raft/errors.py",
    "cluster/raft/greeting.py",
    "cluster/raft/lease.py",
    "cluster/raft/times.py",
    "cluster/raft/wire.py",
    "cluster/redirect/keepalived_text.py",
    "cluster/redirect/redirection.py",
    "cluster/registry/state_machine.py",
    "cluster/leader/selection.py",
    "cluster/leader/takeover.py",
    "cluster/leader/trouble.py",
    "cluster/registry/values.py",
    "cluster/leader/watch.py",
    "cluster/leader/wishes.py",
    "kagemusha/unit/losses.py",
    "kagemusha/unit/text.py",
    "kagemusha/unit/toml.py",
    "kagemusha/unit/translate.py",
    "kagemusha/unit/values.py",
    "kagemusha/unit/words.py",
    "transport/barrier.py",
    "transport/nftables.py",
    "transport/waiting.py",
    "transport/checkpoint.py",
    "transport/codec.py",
    "transport/context_schema.py",
    "transport/control.py",
    "transport/delta.py",
    "transport/envelope.py",
    "transport/frame.py",
    "transport/messages.py",
    "transport/netlink_format.py",
    "transport/pubsub.py",
    "transport/session.py",
    "transport/structure_messages.py",
}
"""Decisions and values: the same input gives the same output, on every machine, in a simulator too."""
IMPURE_MODULES = {"asyncio", "ctypes", "random", "secrets", "socket", "subprocess", "threading", "time"}


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file. path: relative to the project, with slashes."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return _parsed(self.path, self.text)

    @property
    def package(self) -> str:
        """The top-level directory that it lies in."""
        return self.path.partition("/")[0]


@functools.cache
def _parsed(path: str, text: str) -> ast.Module:
    return ast.parse(text, path)


Rule = Callable[[Source], Iterator[str]]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Source]:
    """All Python files of the project."""
    paths = [path for package in (*PACKAGES, "tests", "examples") for path in sorted((ROOT / package).rglob("*.py"))]
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def imported_modules(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that is imported anywhere in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "." * node.level
            else:
                yield node.lineno, node.module or ""


def files_are_short(source: Source) -> Iterator[str]:
    """A file has one noun, and 500 lines are enough for it."""
    lines = len(source.text.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{source.path}: {lines} lines, at most {FILE_LINES_MAX}"


def functions_are_short(source: Source) -> Iterator[str]:
    """A function fits on one screen."""
    for node in ast.walk(source.tree):
        if isinstance(node, Function) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{source.path}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES_MAX}"


def packages_keep_to_themselves(source: Source) -> Iterator[str]:
    """The import rules of the house; a relative import would hide one."""
    if source.package not in MAY_IMPORT:
        return
    allowed = {"kagemusha"} if source.path.startswith(STANDALONE) else MAY_IMPORT[source.package]
    for line, name in imported_modules(source.tree):
        top = name.partition(".")[0]
        if name.startswith("."):
            yield f"{source.path}:{line}: a relative import; write the whole name"
        elif (top in PACKAGES or top == "tests") and top not in allowed:
            yield f"{source.path}:{line}: {source.package} must not import {name}"


def pure_modules_are_pure(source: Source) -> Iterator[str]:
    """No clock, randomness or I/O where decisions are made."""
    if source.path in PURE:
        for line, name in imported_modules(source.tree):
            if name.partition(".")[0] in IMPURE_MODULES:
                yield f"{source.path}:{line}: a pure module must not import {name}"


def ctypes_stays_in_the_kernel_room(source: Source) -> Iterator[str]:
    """One room talks to the kernel by hand; all others call its functions. Tests may look behind it."""
    if source.package in PACKAGES and not source.path.startswith("agent/kernel/"):
        for line, name in imported_modules(source.tree):
            if name.partition(".")[0] == "ctypes":
                yield f"{source.path}:{line}: ctypes is only for agent/kernel/"


def raft_library_stays_in_its_room(source: Source) -> Iterator[str]:
    """The Raft library is wrapped in one place."""
    if not source.path.startswith("cluster/raft/"):
        for line, name in imported_modules(source.tree):
            if name.partition(".")[0] == "pysyncobj":
                yield f"{source.path}:{line}: pysyncobj is only for cluster/raft/"


def nothing_is_unpickled(source: Source) -> Iterator[str]:
    """Bytes that come from elsewhere must not become code."""
    for line, name in imported_modules(source.tree):
        if name.partition(".")[0] in {"pickle", "marshal", "shelve", "dill", "cloudpickle"}:
            yield f"{source.path}:{line}: {name} runs what it reads; use transport.codec"


def only_the_face_prints(source: Source) -> Iterator[str]:
    """Agents and daemons log; the command line talks to people, and a victim to its test."""
    if source.package in PACKAGES and source.package != "kagemusha":
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                yield f"{source.path}:{node.lineno}: print is only for kagemusha/"


def no_assert_guards_data(source: Source) -> Iterator[str]:
    """`python -O` strips assert: what guards data raises a real exception."""
    if source.package in PACKAGES and source.package != "kagemusha":
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Assert):
                yield f"{source.path}:{node.lineno}: assert; raise an error instead"


def no_bare_except(source: Source) -> Iterator[str]:
    """A bare except swallows even the end of the process."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield f"{source.path}:{node.lineno}: bare except"


def public_names_have_docstrings(source: Source) -> Iterator[str]:
    """Every module, public class and public function says what it is. Methods of one line, and `close`, say it by
    their name."""
    if source.package not in PACKAGES:
        return
    if ast.get_docstring(source.tree) is None:
        yield f"{source.path}: no module docstring"
    yield from _undocumented(source.path, source.tree, inside_class=False)


def _undocumented(path: str, parent: ast.Module | ast.ClassDef, *, inside_class: bool) -> Iterator[str]:
    for node in parent.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not (inside_class and _is_plain(node)):
            yield f"{path}:{node.lineno}: {node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(path, node, inside_class=True)


def _is_plain(node: Function | ast.ClassDef) -> bool:
    return isinstance(node, Function) and (len(node.body) == 1 or node.name == "close")


def nothing_is_called_utils(source: Source) -> Iterator[str]:
    """A name says what is inside."""
    if Path(source.path).stem in {"utils", "util", "helpers", "misc", "common"}:
        yield f"{source.path}: a name that says nothing"


RULES: list[Rule] = [
    files_are_short,
    functions_are_short,
    packages_keep_to_themselves,
    pure_modules_are_pure,
    ctypes_stays_in_the_kernel_room,
    raft_library_stays_in_its_room,
    nothing_is_unpickled,
    only_the_face_prints,
    no_assert_guards_data,
    no_bare_except,
    public_names_have_docstrings,
    nothing_is_called_utils,
]

DOCUMENTED = '"""A module."""\n'
LONG_FUNCTION = "def long() -> None:\n" + "    pass\n" * FUNCTION_LINES_MAX
VIOLATIONS: list[tuple[Rule, Source]] = [
    (files_are_short, Source("agent/long.py", "\n" * (FILE_LINES_MAX + 1))),
    (functions_are_short, Source("agent/long.py", LONG_FUNCTION)),
    (functions_are_short, Source("tests/test_long.py", "async " + LONG_FUNCTION)),
    (packages_keep_to_themselves, Source("transport/link.py", "from agent.memory.image import Image\n")),
    (
        packages_keep_to_themselves,
        Source("agent/memory/image.py", "def late():\n    import cluster.registry\n"),
    ),
    (packages_keep_to_themselves, Source("cluster/leader/failover.py", "from kagemusha import demo\n")),
    (packages_keep_to_themselves, Source("agent/memory/image.py", "from .errors import KernelError\n")),
    (packages_keep_to_themselves, Source("kagemusha/client/api.py", "import transport.codec\n")),
    (packages_keep_to_themselves, Source("agent/memory/image.py", "from tests.victims import counter\n")),
    (pure_modules_are_pure, Source("transport/session.py", "import time\n")),
    (pure_modules_are_pure, Source("agent/primary/decisions.py", "from random import random\n")),
    (ctypes_stays_in_the_kernel_room, Source("agent/tracing/tracee.py", "import ctypes\n")),
    (ctypes_stays_in_the_kernel_room, Source("kagemusha/demo/load.py", "from ctypes import CDLL\n")),
    (raft_library_stays_in_its_room, Source("cluster/registry/state_machine.py", "from pysyncobj import SyncObj\n")),
    (nothing_is_unpickled, Source("transport/codec.py", "import pickle\n")),
    (only_the_face_prints, Source("agent/runner.py", "print('here')\n")),
    (no_assert_guards_data, Source("transport/delta.py", "assert True\n")),
    (no_bare_except, Source("tests/test_x.py", "try:\n    pass\nexcept:\n    pass\n")),
    (public_names_have_docstrings, Source("agent/memory/image.py", "x = 1\n")),
    (public_names_have_docstrings, Source("agent/memory/image.py", DOCUMENTED + "class Image:\n    size = 1\n")),
    (public_names_have_docstrings, Source("agent/memory/image.py", DOCUMENTED + "def take():\n    return 1\n")),
    (
        public_names_have_docstrings,
        Source(
            "agent/memory/image.py",
            DOCUMENTED + 'class Image:\n    """X."""\n    def take(self):\n        a = 1\n        return a\n',
        ),
    ),
    (nothing_is_called_utils, Source("agent/utils.py", "")),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_the_rule(rule: Rule) -> None:
    wrong = [finding for source in sources() for finding in rule(source)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("rule", "source"), VIOLATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_the_rule_fails_on_a_violation(rule: Rule, source: Source) -> None:
    assert list(rule(source))


def test_every_rule_has_a_violation() -> None:
    assert {rule for rule, _ in VIOLATIONS} == set(RULES)


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _neighbours(source: Source, modules: set[str]) -> set[str]:
    """The modules of ours that a file imports, wherever in it, and if only for its types."""
    names = {name for _, name in imported_modules(source.tree)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inner
            if inner <= modules:
                names.discard(node.module)
    return names & modules


def circle(files: list[Source]) -> list[str]:
    """Return modules of which each imports the next, and the last the first; none where the imports are a tree."""
    names = {_module(source.path) for source in files}
    graph = {_module(source.path): _neighbours(source, names) for source in files}
    sorter = graphlib.TopologicalSorter(graph)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1][1:]))
    return []


def test_no_imports_go_in_a_circle() -> None:
    assert circle([source for source in sources() if source.package in PACKAGES]) == []


@pytest.mark.parametrize(
    "imported",
    [
        "from agent.memory import image",
        "from agent.memory.image import Image",
        "def late():\n    import agent.memory.image",
        "if TYPE_CHECKING:\n    from agent.memory.image import Image",
    ],
)
def test_a_circle_of_imports_is_found(imported: str) -> None:
    there = Source("agent/memory/image.py", "from agent.memory import pages\n")
    assert set(circle([there, Source("agent/memory/pages.py", imported)])) == {
        "agent.memory.image",
        "agent.memory.pages",
    }
    assert circle([there, Source("agent/memory/pages.py", "")]) == []


def test_pure_modules_exist() -> None:
    assert not [path for path in PURE if not (ROOT / path).is_file()]


def test_the_lock_names_no_place() -> None:
    """requirements.lock works on any machine: names, versions and hashes only."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert "pysyncobj==0.3.17 \\" in lines
    for line in lines:
        code = line.partition("#")[0].strip()
        assert not code.startswith("-") or code.startswith("--hash=sha256:"), line
        assert "://" not in line, line
        assert "/" not in code, line
