#!/bin/sh
# A complete worker: signed, enrolled, routed, run from the sealed copy, its receipt shown; then changed and refused.
# Succeeds only if the changed worker is refused. Writes nothing outside the directory given, .demo/hello by default.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
demo=${1:-.demo/hello}
python=${PYTHON:-python3}

say() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }

if [ -e "$demo" ] && [ ! -e "$demo/made-by-run.sh" ]; then
  echo "error: $demo is there already and was not made by this script; name a directory that does not exist" >&2
  exit 2
fi
rm -rf "$demo"
mkdir -p "$demo"
touch "$demo/made-by-run.sh"
cp -R "$here/package" "$here/record.json" "$here/rules.json" "$here/request.json" "$demo"
cd "$demo"

say "Keys: one signs the worker, one the receipts"
run wcp-attest keygen worker.key --no-passphrase
run wcp-attest keygen receipts.key --no-passphrase

say "Sign the package"
run wcp-attest sign package --key worker.key \
  --worker-id org.example.hello-worker --species-id wrk.hello.greeter --worker-version 1.0.0

say "Who is believed, and how the Hall works"
cat > trust.toml <<'TOML'
version = 1
[[namespace]]
name = "org.example"
threshold = 1
[[namespace.signer]]
key = "worker.key.pub"
TOML
cat > hall.toml <<TOML
env = "prod"
require_signatory = true
allowed_tenants = ["example"]
attestation = "sealed"
seal_directory = "$(pwd)/sealed"
TOML
export WCP_ROUTE_CONFIG=hall.toml WCP_ROUTE_RULES=rules.json WCP_ROUTE_STATE=hall.db
export WCP_ATTEST_POLICY=trust.toml WCP_ROUTE_RECEIPT_KEY=receipts.key
run cat trust.toml hall.toml

say "Check the rules and the record, enroll the worker"
run wcp-route rules check rules.json
run wcp-route rules coverage rules.json
run wcp-route check record.json --level standard
run wcp-route enroll record.json --package package --create-state

say "Route a request"
run wcp-route explain request.json
wcp-route decide request.json --format json > decision.json

say "Run the worker from the sealed copy, the very bytes that were verified"
sealed=$("$python" -c 'import json; print(json.load(open("decision.json"))["package_path"])')
run "$python" -B "$sealed/code/bootstrap.py" "$(cat request.json)"

say "The receipt: what was checked, and what each check said"
decision=$("$python" -c 'import json; print(json.load(open("decision.json"))["decision_id"])')
run wcp-route receipts show "$decision"
wcp-route receipts head > head.txt
run wcp-route receipts verify --key receipts.key.pub --head head.txt

say "Change one byte of the worker"
"$python" - <<'PYTHON'
with open("package/code/worker_logic.py", "r+b") as file:
    file.seek(3)
    file.write(b"g")
PYTHON
status=0
run wcp-route decide request.json || status=$?
if [ "$status" -ne 1 ]; then
  printf '\nFAILED: the changed worker was not refused (status %s)\n' "$status"
  exit 1
fi
run wcp-route list
run wcp-route receipts verify --key receipts.key.pub --head head.txt
printf '\nThe changed worker was refused and put into quarantine.\n'
