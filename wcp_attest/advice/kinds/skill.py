r"""Agent Skills: `SKILL.md` with YAML front matter (agentskills.io/specification).

    ---
    name: pdf-forms
    description: Fill in PDF forms.
    metadata:
      version: "1.2.0"
    ---

Two values of the front matter are read, `name` and `metadata.version`, and both are plain words. So the lines are
read without a YAML library: a spelling of them that needs one (anchors, tags, blocks, flow) is refused by name, and
all other lines may hold what they like.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wcp_attest.advice.kinds.described import Described
from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from wcp_attest.advice.kinds.described import Reader

SOURCE: Final = "SKILL.md"
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?=[a-z0-9])){0,63}\Z")
_PAIR: Final = re.compile(r"( *)([A-Za-z0-9_-]+):(?:[ \t]+(.*?))?[ \t]*\Z")
_PLAIN: Final = re.compile(r"""(?:"([^"\\]*)"|'([^']*)'|([A-Za-z0-9][^#"'\[\]{}&*!|>%@`]*?))(?:\s+#.*)?\Z""")


def read(reader: Reader) -> Described | None:
    """Return what the skill says it is, or None for another directory.

    Raises:
        ConfigError: the front matter is missing, or its name is none that the specification allows.
    """
    data = reader.bytes(SOURCE)
    if data is None:
        return None
    values = front_matter(data)
    name = values.get("name")
    if name is None or not _NAME.match(name):
        raise ConfigError(
            f"{SOURCE}: `name` must be 1 to 64 of a-z, 0-9 and `-`, without two `-` in a row and without one at"
            " either end"
        )
    return Described("skill", name, values.get("metadata.version"), SOURCE)


def front_matter(data: bytes) -> dict[str, str]:
    """Return `name` and `metadata.version` of the front matter, where they are there.

    Args:
        data: the whole file.

    Raises:
        ConfigError: there is no front matter, or one of the two is there twice or in a spelling that is not plain.
    """
    try:
        lines = data.removeprefix(b"\xef\xbb\xbf").decode().splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"{SOURCE} is not valid UTF-8") from None
    if not lines or lines[0].rstrip() != "---" or "---" not in (ends := [line.rstrip() for line in lines[1:]]):
        raise ConfigError(f"{SOURCE} does not begin with front matter between two lines of `---`")
    found: dict[str, str] = {}
    section = ""
    for line in lines[1 : 1 + ends.index("---")]:
        pair = _PAIR.match(line)
        if pair is None:
            continue
        indent, key, value = pair.groups("")
        if not indent:
            section = key
        path = key if not indent else f"{section}.{key}"
        if path not in {"name", "metadata.version"}:
            continue
        plain = _PLAIN.match(value)
        if plain is None or path in found:
            raise ConfigError(f"{SOURCE}: write `{path}` once, as one plain or quoted word")
        found[path] = next(group for group in plain.groups() if group is not None).strip()
    return found
