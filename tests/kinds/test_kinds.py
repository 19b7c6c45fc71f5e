"""What people ship: its own files tell what a directory is and propose ids to the signer; nothing is trusted."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import trees
from wcp_attest.advice.kinds import describe, proposed_ids
from wcp_attest.advice.kinds.skill import front_matter
from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

PLUGIN = {
    "$schema": "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json",
    "name": "acme.reports",
    "version": "1.2.0",
}
SKILL = '---\nname: pdf-forms\ndescription: "Fill: in"\nmetadata:\n  author: acme\n  version: "2.1.0"\n---\nBody\n'
BUNDLE = {"manifest_version": "0.3", "name": "Notes Stats", "version": "1.0.0", "author": {"name": "A"}, "server": {}}
PROJECT = '[project]\nname = "My_Tool"\nversion = "3.0"\n'
REVISION = "0e9f" * 10


def plant(root: Path, **files: str) -> Path:
    return trees.plant(root, {name: text.encode() for name, text in files.items()})


@pytest.mark.parametrize(
    ("files", "kind", "ids"),
    [
        ({"plugin.json": json.dumps(PLUGIN)}, "plugin", ("org.acme.acme-reports", "wrk.plugin.acme-reports", "1.2.0")),
        (
            {".claude-plugin/plugin.json": '{"name": "helper"}'},
            "plugin",
            ("org.acme.helper", "wrk.plugin.helper", None),
        ),
        ({"SKILL.md": SKILL}, "skill", ("org.acme.pdf-forms", "wrk.skill.pdf-forms", "2.1.0")),
        ({"manifest.json": json.dumps(BUNDLE)}, "mcpb", ("org.acme.notes-stats", "wrk.mcpb.notes-stats", "1.0.0")),
        ({"pyproject.toml": PROJECT}, "python", ("org.acme.my-tool", "wrk.python.my-tool", "3.0")),
        (
            {"PKG-INFO": "Metadata-Version: 2.1\nName: sdist\nVersion: 1.5\n\nName: not this\n"},
            "python",
            ("org.acme.sdist", "wrk.python.sdist", "1.5"),
        ),
        ({"config.json": "{}", "model.safetensors": ""}, "model", ("org.acme.there", "wrk.model.there", None)),
        ({"tiny.gguf": ""}, "model", ("org.acme.there", "wrk.model.there", None)),
        (
            {"plugin.json": json.dumps(PLUGIN), "SKILL.md": SKILL, "pyproject.toml": PROJECT},
            "plugin",
            ("org.acme.acme-reports", "wrk.plugin.acme-reports", "1.2.0"),
        ),
    ],
)
def test_kind_and_ids_come_from_the_files_that_the_formats_name(
    tmp_path: Path, files: dict[str, str], kind: str, ids: tuple[str, str, str | None]
) -> None:
    described = describe(str(plant(tmp_path / "there", **files)))
    assert described is not None
    proposed = proposed_ids(described, "org.acme")
    assert (described.kind, (proposed.worker_id, proposed.worker_species_id, proposed.worker_version)) == (kind, ids)


def test_a_snapshot_in_the_cache_of_the_hub_takes_its_revision_as_version(tmp_path: Path) -> None:
    root = plant(tmp_path / f"models--acme--Reader-7B/snapshots/{REVISION}", **{"model_index.json": "{}"})
    described = describe(str(root))
    assert described is not None
    assert (described.name, described.version) == ("Reader-7B", REVISION)


@pytest.mark.parametrize(
    "files",
    [{"README.md": "x"}, {"manifest.json": '{"name": "web app"}'}, {"plugin.json": '{"name": "of another program"}'}],
)
def test_other_directories_are_of_no_kind(tmp_path: Path, files: dict[str, str]) -> None:
    assert describe(str(plant(tmp_path / "d", **files))) is None


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"plugin.json": json.dumps(PLUGIN | {"name": "Upper"})}, "`name`"),
        ({"plugin.json": json.dumps(PLUGIN | {"name": "a--b"})}, "`name`"),
        ({"plugin.json": json.dumps(PLUGIN | {"$schema": "https://evil.example/1.0.0/plugin.schema.json"})}, "schema"),
        ({"plugin.json": json.dumps(PLUGIN | {"version": 3})}, "`version`"),
        ({"plugin.json": "{" * 5000}, "plugin.json"),
        ({"SKILL.md": "no front matter"}, "front matter"),
        ({"SKILL.md": "---\nname: a\n"}, "front matter"),
        ({"SKILL.md": "---\nname: pdf\nname: other\n---\n"}, "once"),
        ({"SKILL.md": "---\nname: &anchor pdf\n---\n"}, "plain"),
        ({"SKILL.md": "---\nname: |\n  pdf\n---\n"}, "plain"),
        ({"SKILL.md": "---\nname: '../evil'\n---\n"}, "`name`"),
        ({"SKILL.md": "---\nname: PDF\n---\n"}, "`name`"),
        ({"SKILL.md": "---\ndescription: nothing else\n---\n"}, "`name`"),
        ({"manifest.json": '{"manifest_version": "0.3", "name": "x"}'}, "server"),
        ({"manifest.json": '{"manifest_version": "0.3", "name": ["x"], "server": {}}'}, "`name`"),
        ({"pyproject.toml": "[project]\nversion = '1'\n"}, "`name`"),
        ({"pyproject.toml": "[project"}, "TOML"),
        ({"PKG-INFO": "Name: a\nName: b\n"}, "twice"),
    ],
)
def test_malformed_description_is_one_error(tmp_path: Path, files: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as problem:
        describe(str(plant(tmp_path / "d", **files)))
    assert "\n" not in str(problem.value)


@given(st.text())
def test_front_matter_is_read_or_refused_whatever_it_holds(text: str) -> None:
    try:
        values = front_matter(f"---\n{text}\n---\n".encode("utf-8", "surrogatepass"))
    except ConfigError:
        return
    assert set(values) <= {"name", "metadata.version"}


@given(st.from_regex(r"[a-z0-9]([a-z0-9]|-[a-z0-9]){0,20}", fullmatch=True), st.sampled_from(["", '"', "'"]))
def test_front_matter_gives_the_name_in_each_plain_spelling(name: str, quote: str) -> None:
    assert front_matter(f"---\nname: {quote}{name}{quote}  # note\n---\n".encode()) == {"name": name}


def test_signs_a_skill_with_nothing_but_a_namespace_and_a_key(wcp: Command, key: Path) -> None:
    plant(wcp.folder / "pdf-forms", **{"SKILL.md": SKILL, "scripts/fill.py": "print()\n"})
    run = wcp("sign", "pdf-forms", "--namespace", "org.acme", "--key", key.name, "--format", "json")
    assert (run.status, run.json["package"]["worker_id"]) == (0, "org.acme.pdf-forms")
    assert "skill (SKILL.md): org.acme.pdf-forms 2.1.0" in run.err
    trust = ("--public-key", "acme.key.pub", "--worker-id", "org.acme.pdf-forms")
    assert wcp("verify", "pdf-forms", *trust).status == 0
    # What the package says of itself is not asked at verify: an unsigned change of it is a changed file.
    plant(wcp.folder / "pdf-forms", **{"SKILL.md": SKILL.replace("pdf-forms", "other")})
    assert wcp("verify", "pdf-forms", *trust).status == 1


def test_signs_an_installed_distribution(wcp: Command, key: Path) -> None:
    files = importlib.metadata.distribution("click").files or []
    for file in files:
        if file.suffix != ".pyc" and ".." not in file.parts:
            target = wcp.folder / "site" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(file.locate()), target)
    run = wcp("sign", "site", "--namespace", "org.acme", "--key", key.name, "--format", "json")
    assert run.json["package"]["worker_id"] == "org.acme.click"
    assert run.json["package"]["worker_version"] == importlib.metadata.version("click")


@pytest.mark.parametrize(
    ("files", "options", "says"),
    [
        ({"README": "x"}, (), "is none of plugin, skill"),
        ({"SKILL.md": "---\nname: a\n---\n"}, (), "names no version"),
        ({"SKILL.md": SKILL}, ("--namespace", "acme"), "is not a namespace"),
        ({"SKILL.md": "x"}, (), "front matter"),
        # A variable of a script that is not set must not become the package's own word.
        ({"SKILL.md": SKILL}, ("--worker-id", ""), "--worker-id is empty"),
        ({"SKILL.md": SKILL}, ("--species-id", ""), "--species-id is empty"),
        ({"SKILL.md": SKILL}, ("--worker-version", ""), "--worker-version is empty"),
    ],
)
def test_what_gives_no_ids_is_status_2(
    wcp: Command,
    key: Path,
    files: dict[str, str],
    options: tuple[str, ...],
    says: str,
) -> None:
    plant(wcp.folder / "d", **files)
    run = wcp("sign", "d", "--namespace", "org.acme", "--key", key.name, *options)
    assert (run.status, says in run.err, "Traceback" in run.err) == (2, True, False)
    assert not (wcp.folder / "d" / "manifest.json").exists()


def test_signs_packs_verifies_and_unpacks_an_mcp_bundle_that_owns_manifest_json(
    wcp: Command,
    key: Path,
) -> None:
    plant(wcp.folder / "notes", **{"manifest.json": json.dumps(BUNDLE), "server/index.js": "main()\n"})
    assert wcp("sign", "notes", "--namespace", "org.acme", "--key", key.name).status == 0
    assert (wcp.folder / "notes/manifest.json").read_text() == json.dumps(BUNDLE)
    assert wcp("pack", "notes", "-o", "notes.mcpb").status == 0
    trust = ("--public-key", "acme.key.pub", "--worker-id", "org.acme.notes-stats")
    assert wcp("verify", "notes.mcpb", *trust).status == 0
    assert wcp("unpack", "notes.mcpb", "out", *trust).status == 0
    assert json.loads((wcp.folder / "out/manifest.json").read_text()) == BUNDLE
    assert wcp("verify", "out", *trust).status == 0


def test_show_names_the_kind_and_escapes_what_the_package_says(wcp: Command, key: Path) -> None:
    bundle = BUNDLE | {"name": "Notes\x1b[31m\nVERIFIED", "version": None}
    plant(wcp.folder / "notes", **{"manifest.json": json.dumps(bundle)})
    ids = ("--worker-id", "org.acme.notes", "--species-id", "wrk.mcpb.notes", "--worker-version", "1.0.0")
    assert wcp("sign", "notes", *ids, "--key", key.name).status == 0
    shown = wcp("show", "notes", "--format", "json").json
    assert shown["described"] == {
        "kind": "mcpb",
        "name": bundle["name"],
        "version": None,
        "source": "manifest.json",
    }
    text = wcp("show", "notes").out
    assert "calls itself mcpb Notes" in text
    assert "\x1b" not in text
    assert "\nVERIFIED" not in text


@pytest.mark.parametrize("text", ["no front matter", "---\nname: ../evil\n---\n"])
def test_show_still_shows_a_package_whose_description_is_malformed(
    wcp: Command,
    key: Path,
    text: str,
) -> None:
    plant(wcp.folder / "d", **{"SKILL.md": text})
    ids = ("--worker-id", "org.acme.forms", "--species-id", "wrk.skill.forms", "--worker-version", "1.0.0")
    assert wcp("sign", "d", *ids, "--key", key.name).status == 0
    run = wcp("show", "d", "--format", "json")
    assert (run.status, run.json["described"], run.json["manifest"]["worker_id"]) == (0, None, "org.acme.forms")
    assert "SKILL.md" in " ".join(run.json["problems"])
    assert "org.acme.forms" in wcp("show", "d").out


@pytest.mark.parametrize("kind", ["skill", "plugin", "mcpb"])
def test_what_init_lays_out_signs_with_a_namespace_at_once(wcp: Command, key: Path, kind: str) -> None:
    assert wcp("init", "my-forms", "--kind", kind).status == 0
    run = wcp("sign", "my-forms", "--namespace", "org.acme", "--key", key.name, "--format", "json")
    assert (run.status, run.json["package"]["worker_id"]) == (0, "org.acme.my-forms")
    assert run.json["package"]["worker_species_id"] == f"wrk.{kind}.my-forms"
    assert run.json["package"]["worker_version"] == "0.1.0"
    again = wcp("init", "my-forms", "--kind", kind)
    assert (again.status, "already holds" in again.err) == (2, True)


@pytest.mark.parametrize("kind", ["skill", "plugin", "mcpb"])
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("My Forms",), "cannot be its name"),
        (("a\n",), "cannot be its name"),
        (("forms", "--worker-version", "1\n2"), "version"),
        (("forms", "--worker-id", "org.acme.forms"), "--kind worker"),
    ],
)
def test_init_refuses_what_gives_no_package_and_writes_nothing(
    wcp: Command,
    kind: str,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    run = wcp("init", *arguments, "--kind", kind)
    assert (run.status, says in run.err, "Traceback" in run.err) == (2, True, False), run
    assert not (wcp.folder / arguments[0]).exists()


def cached_model(folder: Path, files: dict[str, bytes]) -> Path:
    """Lay out a snapshot as the hub's client does: plain blobs named by content, and links to them."""
    blobs, root = folder / "blobs", folder / "snapshots" / REVISION
    blobs.mkdir(parents=True)
    for name, data in files.items():
        large = name.endswith(".safetensors")
        blob = hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0" % len(data) + data)
        (blobs / blob.hexdigest()).write_bytes(data)
        link = root / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../" * (2 + name.count("/")) + f"blobs/{blob.hexdigest()}")
    return root


MODEL = {"config.json": b"{}", "model.safetensors": b"weights" * 999, "tokenizer/vocab.txt": b"a\nb\n"}


def test_a_snapshot_is_explained_or_copied_with_its_links_followed(wcp: Command, key: Path) -> None:
    root = cached_model(wcp.folder / "models--acme--reader", MODEL)
    sign = ("sign", root, "--namespace", "org.acme", "--key", key)
    refused = wcp(*sign)
    assert refused.status == 1
    assert "--hf-snapshot" in refused.err
    wcp.ok(*sign, "--hf-snapshot", "reader")
    assert {path: (wcp.folder / "reader" / path).read_bytes() for path in MODEL} == MODEL
    assert not any(path.is_symlink() for path in (wcp.folder / "reader").rglob("*"))
    assert not (root / "manifest.json").exists()
    shown = wcp.ok("verify", "reader", "--public-key", "acme.key.pub", "--namespace", "org.acme", "--format", "json")
    assert shown.json["package"]["worker_id"] == "org.acme.reader"
    assert shown.json["package"]["worker_version"] == REVISION
    again = wcp(*sign, "--hf-snapshot", "reader")
    assert (again.status, "exists already" in again.err) == (2, True)


@pytest.mark.parametrize("spoil", ["blob", "link out", "link to another cache", "link to a link", "pipe", "lost"])
def test_a_snapshot_that_is_not_what_it_seems_is_not_copied(
    wcp: Command, key: Path, spoil: str
) -> None:  # fmt: skip
    root = cached_model(wcp.folder / "models--acme--reader", MODEL)
    blob = (root / "config.json").resolve()
    match spoil:
        case "blob":
            blob.write_bytes(b"[]")
        case "link out":
            (root / "extra").symlink_to("/etc/passwd")
        case "link to another cache":
            other = cached_model(wcp.folder / "models--evil--reader", MODEL)
            link = root / "model.safetensors"
            link.unlink()
            link.symlink_to(f"../../../models--evil--reader/blobs/{(other / 'model.safetensors').resolve().name}")
        case "link to a link":
            blob.rename(wcp.folder / "moved")
            blob.symlink_to(wcp.folder / "moved")
        case "pipe":
            os.mkfifo(root / "pipe")
        case _:
            blob.unlink()
    run = wcp("sign", root, "--namespace", "org.acme", "--key", key, "--hf-snapshot", "reader")
    assert run.status == 2
    assert not (wcp.folder / "reader").exists()
    assert not list(wcp.folder.glob(".wcp-*"))


def test_a_snapshot_is_not_copied_into_itself(wcp: Command, key: Path) -> None:
    root = cached_model(wcp.folder / "models--acme--reader", MODEL)
    run = wcp("sign", root, "--namespace", "org.acme", "--key", key, "--hf-snapshot", root / "reader")
    assert (run.status, "inside the package" in run.err) == (2, True)
    assert not (root / "reader").exists()
