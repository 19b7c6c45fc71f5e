"""Hash or verify a package on shared storage with the workers of a Dask cluster (here: two on this machine).

pip install 'wcp-attest[dask]'
python examples/dask_hash.py my-worker              # print its package hash
python examples/dask_hash.py my-worker policy.toml  # verify it; exit status 1 when it is refused
"""

from __future__ import annotations

import sys

from distributed import Client, LocalCluster, Worker

from wcp_attest import ReadOptions, load_policy, verify
from wcp_attest.disk.read_tree import read_tree


def hash_package(root: str, options: ReadOptions) -> str:
    """Return the package hash of a tree that every worker sees under the same path."""
    reading = read_tree(root, options=options)
    return f"sha256:{reading.package_hash}  {reading.files} files, {reading.size} bytes"


def verify_package(root: str, policy: str, options: ReadOptions) -> str:
    """Return whom the package is from, or end the program with the reason why it is refused."""
    verdict = verify(root, load_policy(policy), options=options)
    if verdict.verified is None:
        differences = [f"  {one.change}: {one.path}" for one in verdict.differences]
        raise SystemExit("\n".join([f"{verdict.code}: {verdict.message}", *differences]))
    return verdict.verified.trust_statement


def jobs_done(dask_worker: Worker) -> int:
    """Return how many jobs a worker has finished; Dask passes the worker by the name of the parameter."""
    return int(dask_worker.state.executed_count)


def main(root: str, policy: str | None = None) -> None:
    """Start a cluster, let it hash, say which worker did how much."""
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)  # type: ignore[no-untyped-call]
    with cluster, Client(cluster) as client:  # type: ignore[no-untyped-call]
        options = ReadOptions(executor=client.get_executor())
        print(hash_package(root, options) if policy is None else verify_package(root, policy, options))
        for address, jobs in client.run(jobs_done).items():
            print(f"{address} did {jobs} jobs")


if __name__ == "__main__":
    main(*sys.argv[1:3])
