#!/usr/bin/env bash
# Finds a Python that is new enough and lets it make the virtual environment; nothing else is done in shell.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

if [ "${RUNNER_OS:-}" = Windows ]; then
  echo "::error title=wcp-attest::this action runs on Linux and macOS only; sign and verify in a job on one of them"
  exit 2
fi
for candidate in python3 python; do
  if "$candidate" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
    exec "$candidate" -I "$here/install.py"
  fi
done
echo "::error title=wcp-attest::Python 3.11 or newer is needed on PATH; run actions/setup-python before this step"
exit 2
