"""The rules of the house that need a look at the whole repository: circles, rooms, and how far one `verify` reaches.

Where a rule does not hold yet, today's exceptions stand here with their number or their reason; a new one fails.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.route.worlds import World, a_request
from wcp_attest import HmacSecret, Namespace, Policy, load_policy, sign, verify
from wcp_attest.cli import main
from wcp_attest.testing import SignedPackage, make_signed_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ROOT = Path(__file__).parents[1]
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("wcp_attest", "wcp_route")
    for path in sorted((ROOT / package).rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text()) for name, path in PATHS.items()}

LAZY_FACES = {"wcp_attest", "wcp_route"}  # their names are imported at first use, so they stand in nobody's way
OPENERS = {
    "wcp_attest.advice.digest_cache": "the cache's own file, under its own lock",
    "wcp_attest.advice.git_command": "one line of git's own directory",
    "wcp_attest.scaffold": "templates inside the installed package",
    "wcp_attest.signing.sigstore.child_process": "the pipe to the signing process",
    "wcp_attest.store": "a directory descriptor for an entry",
    "wcp_attest.testing": "packages for tests",
    "wcp_attest.trust.bans.feeds.file_feed": "a descriptor that disk.private_files has checked",
    "wcp_attest.trust.bans.feeds.tuf_feed": "the metadata directory of python-tuf",
    "wcp_attest.trust.bans.list_compiler": "the compiled list, written block by block",
}
MAX_FILES_LIBRARY, MAX_FILES_COMMAND = 15, 25
MAX_FILES_ROUTE = 22
MAX_FUNCTIONS = 42  # for each 1,000 lines of a package
MAX_SLICE_SHARE = 0.15  # of the private functions of a package
SLICE_LINES = 6
MAX_PARAMETERS = 8
COMPLEXITY = 12
COMPLEX = {
    "wcp_attest.disk.hashing.read": "the hot loop over small files (bar: small)",
    "wcp_route.domain.canonical._is_plain": "one pass over a payload (bar: plain decisions, benchmarks/route.py)",
    "wcp_route.gates.deciding.decided": "a list of fields, of which a worker, a hold or an answer may be absent",
}
MANY_PARAMETERS = {  # beside the commands: click gives each its options
    "wcp_attest.build.build_manifest": "a public function by keywords: each is a field of the manifest",
    "wcp_attest.legacy_tree.build": "likewise, of the earlier manifest",
    "wcp_route.cli.opening.opened": "each is an option of the commands that open a Hall",
    "wcp_route.compat.pyhall.make_decision": "the signature of the earlier SDK",
    "wcp_route.storage.receipts.read.last": "each narrows the list of receipts",
    "wcp_route.storage.state.open_state": "each is a setting of the state",
}
SAME_CLASSES = {"RegistryError"}  # of the client of a worker registry, and of the Hall's own registry, for programs
SAME_MODULES = {"decision", "state", "store"}  # likewise; below cli/, a file has the name of its command
FACES = {"errors", "policy", "bans", "registry"}  # public faces, which programs import under these names


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports: at the top, inside functions and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph() -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for name, tree in TREES.items():
        targets = set()
        for target in imports(tree):
            module = target
            while module and module not in TREES:
                module = module.rpartition(".")[0]
            targets.add(module)
        edges[name] = targets - {name, ""} - LAZY_FACES
    return edges


def circles() -> set[frozenset[str]]:
    """The strongly connected components of more than one module."""
    edges = graph()

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for target in edges.get(waiting.pop(), ()):
                if target not in seen:
                    seen.add(target)
                    waiting.append(target)
        return seen

    reach = {name: reached(name) for name in edges}
    return {
        frozenset({name, *(other for other in reach[name] if name in reach.get(other, ()))})
        for name in edges
        if name in reach[name]
    }


def test_there_is_no_circle() -> None:
    assert circles() == set()


def test_only_disk_opens_files() -> None:
    found = set()
    for name, tree in TREES.items():
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        opens = {"open", "os.open", "os.fdopen", "io.open"} & calls or any(
            call.endswith((".read_bytes", ".read_text", ".write_bytes", ".write_text")) for call in calls
        )
        if opens and name.startswith("wcp_attest.") and not name.startswith(("wcp_attest.disk", "wcp_attest.cli")):
            found.add(name)
    assert found == OPENERS.keys()


def test_only_net_opens_sockets_and_only_signing_uses_cryptography() -> None:
    for name, tree in TREES.items():
        roots = {target.split(".")[0] for target in imports(tree)}
        if name.startswith("wcp_attest") and not name.startswith(("wcp_attest.net", "wcp_attest.signing.sigstore")):
            assert not roots & {"socket", "ssl", "http", "urllib3", "requests", "httpx"}, name
        if name.startswith("wcp_attest") and not name.startswith("wcp_attest.signing"):
            assert not roots & {"cryptography", "sigstore", "sigstore_models"}, name


def test_only_the_verifier_makes_a_proof() -> None:
    used = {name for name, path in PATHS.items() if re.search(r"\bSEAL\b", path.read_text())}
    assert used == {"wcp_attest.verdict", "wcp_attest.verification"}


@pytest.mark.parametrize("package", ["wcp_attest", "wcp_route"])
def test_functions_are_not_sliced_thinner(package: str) -> None:
    names = [name for name in TREES if name.split(".")[0] == package]
    lines = sum(PATHS[name].read_text().count("\n") for name in names)
    functions = sum(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for name in names for node in ast.walk(TREES[name])
    )
    assert 1000 * functions / lines <= MAX_FUNCTIONS


@pytest.mark.parametrize("package", ["wcp_attest", "wcp_route"])
def test_short_private_functions_stand_where_they_are_called(package: str) -> None:
    called = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute)
    )
    private = short = 0
    for name, tree in TREES.items():
        for node in ast.walk(tree) if name.split(".")[0] == package else ():
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if not node.name.startswith("_") or node.name.startswith("__"):
                continue
            body = node.body[1:] if ast.get_docstring(node) else node.body
            private += 1
            lines = (node.end_lineno or 0) - body[0].lineno + 1 if body else 0
            short += called[node.name] == 1 and lines <= SLICE_LINES
    assert short / private <= MAX_SLICE_SHARE


BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.match_case)


def complexity(function: ast.AST) -> int:
    """Ways through a function, counting `and`, `or` and conditional expressions as the branches that they are."""
    found, waiting = 1, list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            continue
        found += isinstance(node, BRANCHES)
        found += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
        waiting += ast.iter_child_nodes(node)
    return found


def test_a_function_has_few_ways_through() -> None:
    found = {
        f"{name}.{node.name}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and complexity(node) > COMPLEXITY
    }
    assert found <= COMPLEX.keys()


def test_a_function_has_few_parameters() -> None:
    found = set()
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if any(ast.unparse(decorator).partition("(")[0].endswith(".command") for decorator in node.decorator_list):
                continue
            names = [each.arg for each in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len(names) - (names[:1] in (["self"], ["cls"])) > MAX_PARAMETERS:
                found.add(f"{name}.{node.name}")
    assert found <= MANY_PARAMETERS.keys()


def test_a_name_means_one_thing() -> None:
    classes = Counter(
        node.name
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not module.startswith("wcp_route.compat")  # names of the earlier SDKs
    )
    assert {name for name, count in classes.items() if count > 1} <= SAME_CLASSES
    modules = Counter(
        name.rpartition(".")[2]
        for name, path in PATHS.items()
        if ".cli." not in name and not path.name.startswith("__") and name.removeprefix("wcp_attest.") not in FACES
    )
    assert {name for name, count in modules.items() if count > 1} <= SAME_MODULES


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> SignedPackage:
    root = tmp_path_factory.mktemp("house")
    made = make_signed_package(root / "worker", {f"code/{number}.py": str(number) for number in range(5)})
    (root / "acme.pub").write_bytes(made.signer.public_pem())
    policy = 'version = 1\n[[namespace]]\nname = "org.example"\n[[namespace.signer]]\nkey = "acme.pub"\n'
    (root / "policy.toml").write_text(policy)
    return made


def entered(call: Callable[[], object], package: str = "wcp_attest") -> set[str]:
    """The files of a package in which a function ran."""
    found: set[str] = set()

    def watch(frame: FrameType, event: str, arg: object) -> None:
        del arg
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_flags & 2:  # 2: a function, not a class body
            found.add(code.co_filename)

    sys.setprofile(watch)
    try:
        call()
    finally:
        sys.setprofile(None)
    place = str(ROOT / package) + "/"
    return {name.removeprefix(place) for name in found if name.startswith(place)}


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Behind some proxies these are set, and one more file reads them.
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "argv", ["wcp-attest", *arguments])
    assert not main()


def test_verify_enters_few_files(package: SignedPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    file = package.path.parent / "policy.toml"
    policy = load_policy(file)
    verify(package.path, policy)
    library = entered(lambda: verify(package.path, policy))
    assert len(library) <= MAX_FILES_LIBRARY, sorted(library)
    secret = HmacSecret(b"a secret of more than sixteen bytes")
    sign(package.path, [secret])
    by_secret = Policy((Namespace("org.example", (secret,)),))
    of_secret = entered(lambda: verify(package.path, by_secret))
    assert len(of_secret) <= MAX_FILES_LIBRARY, sorted(of_secret)
    command = ["verify", str(package.path), "--policy", str(file)]
    run(command, monkeypatch)
    from_command_line = entered(lambda: run(command, monkeypatch))
    assert len(from_command_line) <= MAX_FILES_COMMAND, sorted(from_command_line)


PAGE = (ROOT / "docs/architecture.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_every_room_stands_in_the_picture() -> None:
    picture = section("The rooms").split("```text\n")[1].split("```")[0]
    for place in ("wcp_attest", "wcp_route"):
        part = picture.split(f"{place}/\n")[1].split("\n\n")[0]
        rooms = {path.name for path in (ROOT / place).iterdir() if path.is_dir()} - {"__pycache__", "schemas"}
        rooms -= {"templates", "migrations"} | {name for name in rooms if not list((ROOT / place / name).glob("*.py"))}
        assert {name for name in rooms if name not in FACES and f"{name}/" not in part} == set()


def test_the_steps_of_a_decision_are_numbered_beside_the_calls_and_on_the_page() -> None:
    source = PATHS["wcp_attest.verification"].read_text()
    node = next(each for each in ast.walk(TREES["wcp_attest.verification"]) if getattr(each, "name", "") == "decide")
    assert isinstance(node, ast.FunctionDef)
    body = "\n".join(source.splitlines()[node.lineno : node.end_lineno])
    numbers = [int(number) for line in re.findall(r"# (\d  .*)", body) for number in re.findall(r"\b(\d)  [A-Z]", line)]
    assert numbers == list(range(9))
    assert [
        int(number) for number in re.findall(r"^(\d)\. ", section("One `verify`, file by file"), re.MULTILINE)
    ] == numbers


def test_each_word_is_explained_once() -> None:
    words = re.findall(r"^\| ([a-zA-Z ]+) \| .+ \|$", section("Words"), re.MULTILINE)[1:]
    assert len(words) == len(set(words)) >= 40


def test_a_decision_of_the_hall_enters_the_files_that_the_page_names(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.enroll()
    hall = world.hall()
    hall.route(a_request())
    inside = entered(lambda: hall.route(a_request()), "wcp_route")
    named = set(re.findall(r"`([a-z_/0-9]+\.py)`", section("One `Hall.route`, step by step")))
    assert {name for name in named if not name.startswith("tests/")} <= inside
    assert len(inside) <= MAX_FILES_ROUTE, sorted(inside)


def test_the_walk_on_the_page_is_the_one_that_runs(package: SignedPackage) -> None:
    small, large = (
        {name for name in re.findall(r"`([a-z_/0-9]+\.py)`", part) if not name.startswith("tests/")}
        for part in section("One `verify`, file by file").split("### A tree that is not small")
    )
    policy = load_policy(package.path.parent / "policy.toml")
    of_small = entered(lambda: verify(package.path, policy))
    assert of_small == small
    big = make_signed_package(package.path.parent / "big", {f"{number}": "" for number in range(600)})
    trusted = Policy((Namespace("org.example", keys=(big.signer.trusted,)),))
    assert entered(lambda: verify(big.path, trusted)) - of_small == large
