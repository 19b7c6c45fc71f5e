"""`python -m wcp_attest`, the same as `wcp-attest`."""

from __future__ import annotations

import sys

from wcp_attest.cli import main

if __name__ == "__main__":
    sys.exit(main())
