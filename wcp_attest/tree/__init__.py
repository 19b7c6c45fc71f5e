"""Package trees: read one to build a manifest, check one against its manifest, read and replace single files.

This is the only part of the core that touches the file system.
"""

from wcp_attest.tree.check import check_tree
from wcp_attest.tree.names import is_bytecode
from wcp_attest.tree.options import Progress, Reading, ReadOptions
from wcp_attest.tree.read import read_tree

__all__ = ["Progress", "ReadOptions", "Reading", "check_tree", "is_bytecode", "read_tree"]
