"""Model directories in the layout of the Hugging Face hub: `config.json`, or `model_index.json` of a pipeline.

    models--acme--reader/snapshots/0e9f…/config.json      the hub's cache: repository and revision are in the path
    reader/config.json                                    a plain download: the folder is the name

A model names no version of itself. In the cache the revision is one; elsewhere `--worker-version` has to say it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from wcp_attest.advice.kinds.described import Described

if TYPE_CHECKING:
    from wcp_attest.advice.kinds.described import Reader

_CACHED: Final = re.compile(r".*/models--(?:[^/]+--)?([^/]+)/snapshots/([0-9a-f]{40})\Z")
_WEIGHTS: Final = (".safetensors", ".gguf", ".onnx", ".bin", ".pt", ".msgpack", ".h5")


def read(reader: Reader) -> Described | None:
    """Return what the model says it is, or None for another directory.

    Raises:
        ConfigError: `config.json` is there and is no JSON object.
    """
    names = reader.names()
    for source in ("config.json", "model_index.json"):
        path = os.path.join(reader.root, source)
        if source in names and os.path.isfile(path) and any(name.endswith(_WEIGHTS) for name in names):
            break
        if source == "model_index.json" and source in names:
            break
    else:
        weights = [name for name in names if name.endswith((".gguf", ".safetensors"))]
        if not weights:
            return None
        source = weights[0]
    cached = _CACHED.match(reader.root)
    name, version = (cached.group(1), cached.group(2)) if cached else (reader.folder, None)
    return Described("model", name, version, source)
