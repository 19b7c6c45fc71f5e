"""`python -m wcp_attest`, the same as `wcp-attest`."""

from __future__ import annotations

from wcp_attest.cli import program

if __name__ == "__main__":
    program()
