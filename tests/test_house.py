"""The rules of the house that no linter knows: who may import whom, and how long things may get."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60  # of code, without docstring, comments and blank lines
MAX_NESTING = 3

# Rooms by trust: a room imports only from those below it in this list. A module belongs to the longest name that fits.
LAYERS = (
    ("cli",),
    ("advice",),
    ("gate", "lock", "run_package"),
    ("testing", "recheck", "compat", "pack", "pair", "store", "verdict_statements"),
    ("store_entries",),
    (
        "build",
        "scaffold",
        "sign_package",
        "verification",
        "legacy_tree",
    ),
    ("verdict", "deny_code_help"),
    ("trust",),
    ("signing",),
    ("net",),
    ("disk",),
    ("package",),
    ("base",),
)
ROUTE_LAYERS = (
    ("cli",),
    ("service",),
    ("compat", "tool_guard", "json_schemas"),
    ("hall", "replay"),
    ("hall_world",),
    ("gates", "config_model", "telemetry"),
    ("config", "rules", "storage"),
    ("domain",),
)
FACES = {"errors", "policy", "bans", "registry"}  # public names for other programs; no module of ours imports them
# Beside the names of `wcp_attest` itself: the words everything else uses, and the rooms with a surface of their own.
PUBLIC_MODULES = (
    "base",
    "base.errors",
    "base.identity",
    "base.site",
    "base.strictjson",
    "base.toml_table",
    "disk.files",
    "disk.overwrite",  # the one guard of files that are not ours
    "cli.command_table",  # the one refusal of empty values
    "cli.text",  # the one escaping of every output
    "net.https",  # the one HTTP client: bounded in time and size
    "errors",
    "bans",
    "policy",
    "registry",
)
# A broad except hides bugs everywhere but where a decision or an exit status must come of whatever happens.
BROAD_EXCEPTS = {
    "wcp_route/storage/ledger.py": 2,  # the database or the signer; and the plan of one caller among several
    "wcp_route/storage/receipts/read.py": 1,
    "wcp_attest/verdict.py": 1,
    "wcp_attest/cli/__init__.py": 1,
    "wcp_attest/signing/device_key.py": 1,  # the libraries of five makers of devices and clouds raise what they like
    "wcp_route/cli/__init__.py": 1,
    "wcp_route/hall.py": 4,  # a decision, its receipt and its events must come of whatever a store or sink raises
    "wcp_route/gates/pipeline.py": 1,
    "wcp_route/domain/events.py": 1,
    "wcp_route/telemetry/cloudevents.py": 2,
    "wcp_route/telemetry/otel.py": 2,
    "wcp_route/service/machines.py": 2,  # readiness: whatever a database or list raises is a reason
    "wcp_route/service/principals.py": 1,  # no answer of an issuer may end the thread that asks for the next one
}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        yield ".".join(path.relative_to(ROOT / package).with_suffix("").parts).removesuffix(".__init__"), path


def layer(module: str, layers: tuple[tuple[str, ...], ...] = LAYERS) -> int | None:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        for number, names in enumerate(layers):
            if name in names:
                return number
    return None


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of modules imported at run time, wherever in the file; imports for type checkers do not run."""
    checking = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in checking:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize(("name", "path"), list(modules("wcp_attest")))
def test_imports_run_one_way(name: str, path: Path) -> None:
    if name in {"__init__", "__main__"} | FACES:
        return
    own = layer(name)
    assert own is not None, f"{name} stands on no layer; add it to LAYERS"
    for target in imported(ast.parse(path.read_text())):
        assert not target.startswith("wcp_route"), f"{name} imports {target}"
        inner = target.removeprefix("wcp_attest.")
        assert inner.split(".")[0] not in FACES or inner == target, f"{name} imports the public face {target}"
        if inner != target and (other := layer(inner)) is not None:
            assert other >= own, f"{name} imports {target}, which stands above it"


@pytest.mark.parametrize(("name", "path"), list(modules("wcp_route")))
def test_imports_of_the_router_run_one_way(name: str, path: Path) -> None:
    if name == "__init__":
        return
    own = layer(name, ROUTE_LAYERS)
    assert own is not None, f"{name} stands on no layer; add it to ROUTE_LAYERS"
    for target in imported(ast.parse(path.read_text())):
        inner = target.removeprefix("wcp_route.")
        if inner != target and (other := layer(inner, ROUTE_LAYERS)) is not None:
            assert other >= own, f"{name} imports {target}, which stands above it"


@pytest.mark.parametrize(("name", "path"), list(modules("wcp_route")))
def test_the_router_uses_only_public_names(name: str, path: Path) -> None:
    public = {"wcp_attest", *(f"wcp_attest.{name}" for name in PUBLIC_MODULES)}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "wcp_attest":
            assert node.module in public, f"{name} imports from {node.module}"
            assert not any(alias.name.startswith("_") for alias in node.names)


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef, source: list[str]) -> int:
    body = function.body[1:] if ast.get_docstring(function) else function.body
    if not body:
        return 0
    lines = source[body[0].lineno - 1 : function.end_lineno]
    return sum(1 for line in lines if line.strip() and not line.strip().startswith("#"))


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Depth of blocks inside blocks; `elif` is no deeper than its `if`."""
    deepest = depth
    for field, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            block = isinstance(child, ast.If | ast.For | ast.While | ast.With | ast.Try | ast.Match)
            alternative = field == "orelse" and isinstance(node, ast.If) and isinstance(child, ast.If)
            deepest = max(deepest, nesting(child, depth + (block and not alternative)))
    return deepest


SOURCES = [path for package in ("wcp_attest", "wcp_route", "action") for _, path in modules(package)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_and_functions_stay_readable(path: Path) -> None:
    source = path.read_text().splitlines()
    assert len(source) <= MAX_MODULE_LINES, f"{path.name} has {len(source)} lines"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert code_lines(node, source) <= MAX_FUNCTION_LINES, f"{node.name} is too long"
            assert nesting(node) <= MAX_NESTING, f"{node.name} is nested too deeply"


@pytest.mark.parametrize("package", ["wcp_attest", "wcp_route"])
def test_broad_excepts_are_counted(package: str) -> None:
    found: dict[str, int] = {}
    for _, path in modules(package):
        for node in ast.walk(ast.parse(path.read_text())):
            broad = isinstance(node, ast.ExceptHandler) and (
                node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception")
            )
            if broad:
                key = path.relative_to(ROOT).as_posix()
                found[key] = found.get(key, 0) + 1
    assert all(count <= BROAD_EXCEPTS.get(key, 0) for key, count in found.items()), found
