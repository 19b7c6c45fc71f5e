"""Digests of git's blobs, remembered from one commit to the next; for `check` and `fix`, which verify nothing.

A blob has the name that git gives its content, so there are no times to go by. A collision of two such names (SHA-1 in
most repositories; git itself refuses the known ways to make one) would deceive the commit before it deceived the hook.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wcp_attest.advice.digest_cache import DigestCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_attest.advice.git_index import GitIndex
    from wcp_attest.base.digest import HashAlgorithm


@contextmanager
def remembered(
    index: GitIndex, package: str, algorithm: HashAlgorithm, *, cache: str, report: Callable[[str], None], now: float
) -> Iterator[None]:
    """Tell an index beforehand what is known of its blobs, and remember afterwards what it has hashed.

    Args:
        index: of the package.
        package: path of the package's directory.
        algorithm: of the digests.
        cache: absolute path of the directory of caches (`wcp_attest.advice.digest_cache`).
        report: told in one line when the cache cannot be used; everything is hashed then.
        now: seconds since the epoch.
    """
    digests = DigestCache(cache, ("blobs", algorithm, os.path.realpath(package)), report=report, now=now)
    unknown = set()
    for object_id in {staged.object_id for staged in index.files.values()}:
        found = digests.get(bytes.fromhex(object_id))
        if found is None:
            unknown.add(object_id)
        else:
            index.digests[object_id, algorithm] = found
    try:
        yield
    finally:
        for object_id in unknown:
            hashed = index.digests.get((object_id, algorithm))
            if hashed is not None:
                digests.put(bytes.fromhex(object_id), *hashed)
        digests.save()
