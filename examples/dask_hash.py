"""Hash a package on shared storage with the workers of a Dask cluster (here: two on this machine).

pip install 'wcp-attest[dask]'
python examples/dask_hash.py my-worker
"""

from __future__ import annotations

import sys

from distributed import Client, LocalCluster

from wcp_attest.tree import ReadOptions, read_tree


def main(root: str) -> None:
    """Print the package hash of a tree that every worker sees under the same path."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        reading = read_tree(root, options=ReadOptions(executor=client.get_executor()))
    print(f"sha256:{reading.package_hash}  {reading.files} files, {reading.size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
