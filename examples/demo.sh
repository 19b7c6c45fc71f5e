#!/bin/sh
# Take a real installed package as worker, sign it, verify it, change one byte, and show the refusal.
# Succeeds only if the changed package is refused. Writes nothing outside .demo/.
set -eu
cd "$(dirname "$0")/.."
demo=.demo
worker=$demo/click
python=${PYTHON:-python3}

say() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

[ ! -d "$demo" ] || chmod -R u+w "$demo"  # a store is closed to writing
rm -rf "$demo"
mkdir "$demo"
source=$("$python" -c 'import click, os; print(os.path.dirname(click.__file__))')
cp -R "$source" "$worker"

say "A worker: the installed package $source, $(find "$worker" -type f | wc -l | tr -d ' ') files"
run wcp-attest clean "$worker" --quiet

say "A fresh key"
run wcp-attest keygen "$demo/acme.key" --no-passphrase

say "Sign the whole tree"
run wcp-attest sign "$worker" --key "$demo/acme.key" \
  --worker-id org.acme.click --species-id wrk.demo.library --worker-version 1.0.0

say "Verify it, as the user of the package would"
run wcp-attest verify "$worker" --public-key "$demo/acme.key.pub" --worker-id org.acme.click

say "Keep what was verified in a store"
run wcp-attest store add "$worker" --store "$demo/store" --public-key "$demo/acme.key.pub" --worker-id org.acme.click

say "Change one byte"
"$python" - "$worker/core.py" <<'PYTHON'
import sys

with open(sys.argv[1], "r+b") as file:
    file.seek(1000)
    byte = file.read(1)
    file.seek(1000)
    file.write(bytes([byte[0] ^ 1]))
print(f"byte 1000 of {sys.argv[1]} was {byte!r} and is {bytes([byte[0] ^ 1])!r}")
PYTHON

say "Verify it again"
status=0
run wcp-attest verify "$worker" --public-key "$demo/acme.key.pub" --worker-id org.acme.click || status=$?

if [ "$status" -ne 1 ]; then
  say "FAILED: the changed package was not refused (exit status $status)"
  exit 1
fi
say "Refused with exit status 1, as it must be. Run the release that the store holds"
run wcp-attest run org.acme.click --store "$demo/store" --public-key "$demo/acme.key.pub" --worker-id org.acme.click \
  -- sh -c 'echo "$(wc -l < core.py) lines of core.py, from $WCP_PACKAGE_ROOT"'

say "Everything is in $demo/"
