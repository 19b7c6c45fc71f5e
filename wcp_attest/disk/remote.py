"""Hash files through an executor of the caller: a thread or process pool, or that of a cluster (Dask, Ray, MPI).

The walk, both looks at each directory, and every comparison are done here. Only files are opened on other machines,
under the same path on shared storage. Device and inode numbers may differ from machine to machine, so directories are
not compared by them there; they are still opened without following a link. You must trust the executor: it says what
the files hold.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import CancelledError
from contextlib import closing
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError, TreeUnsafe
from wcp_attest.disk.batches import as_error, assemble, request
from wcp_attest.disk.directory import FileProblem, open_root
from wcp_attest.disk.hashing import Task, Worker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Executor, Future

    from wcp_attest.disk.batches import Done, FileBatch, Request, Result
    from wcp_attest.disk.directory import TreeRoot

    Reply = tuple[list[Result | None], None] | tuple[None, tuple[str, str, str]]

AHEAD = 64  # batches that an executor has at once: enough for a cluster, and few enough to stop soon


def hash_there(
    path: str, requests: list[Request | None], algorithm: str, owner: int | None, limits: tuple[int, int] | None = None
) -> Reply:
    """Hash files where an executor runs this.

    Args:
        path: of the root, absolute.
        requests: one for each part (`batches.request`).
        algorithm: `sha256` or `blake3`.
        owner: the id of the user who may own files when permissions are strict, else None.
        limits: the most bytes of a file, and of holes in it, where no signed manifest says its size; else None.

    Returns:
        The results and None; or None and the path, reason and fault of the `FileProblem` of a file.

    Raises:
        ConfigError: there is no such root, or it is a link or not a directory.
        MachineError: the machine cannot open it.
    """
    results: list[Result | None] = []
    with (
        closing(open_root(path)) as root,
        closing(Worker(root.descriptor, Task(algorithm, owner=owner, limits=limits))) as worker,
    ):
        for wanted in requests:
            if wanted is None:
                results.append(None)
                continue
            folder, _, names, expected = wanted
            try:
                results.append(worker.answer(folder, None, names, expected))
            except FileProblem as problem:
                return None, (problem.path, problem.reason, problem.fault)
    return results, None


def hash_with_executor(
    root: TreeRoot, batches: Iterator[FileBatch], task: Task, executor: Executor
) -> Generator[Done, None, None]:
    """Do batches through an executor, and yield their results in order.

    Args:
        root: of the tree.
        batches: in order; the next is drawn when an earlier one is done.
        task: what is to be done with every file.
        executor: runs `hash_there`.

    Yields:
        The results in the order of the batches.

    Raises:
        TreeUnsafe: a file or directory cannot be read safely or changed meanwhile, or an answer makes no sense.
        ConfigError: the executor failed, or a verified copy was asked for.
    """
    if task.stage is not None:
        raise ConfigError("a staged copy cannot be written through an executor; leave one of them out")
    pending: deque[tuple[FileBatch, Future[Reply]]] = deque()
    try:
        for batch in batches:
            parts = [request(part) for part in batch.parts]
            pending.append(
                (batch, executor.submit(hash_there, root.path, parts, task.algorithm, task.owner, task.limits))
            )
            if len(pending) >= AHEAD:
                yield _result(*pending.popleft())
        while pending:
            yield _result(*pending.popleft())
    finally:
        for _, future in pending:
            future.cancel()


def _result(batch: FileBatch, future: Future[Reply]) -> Done:
    try:
        problem = future.exception()
    except CancelledError:
        raise ConfigError("the executor cancelled a batch; nothing was decided about the tree") from None
    if problem is not None:
        raise ConfigError(f"the executor failed: {type(problem).__name__}: {problem}") from problem
    try:
        results, refused = future.result()
        if refused is None:
            return assemble(batch, results)
        path, reason, fault = refused
    except (TypeError, ValueError) as nonsense:
        raise TreeUnsafe(f"the executor gave an answer that makes no sense: {nonsense}") from None
    raise as_error(FileProblem(str(path), str(reason), str(fault)))
