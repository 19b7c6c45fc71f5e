# Two commands matter: `make demo` shows the main job on a real package, `make test` runs everything CI runs.
# Only Python 3.11+ and make are needed; everything else is installed from requirements/dev.txt, locked with hashes. The lock is whole, so nothing is
# resolved (`--no-deps`): pip before 23.3, which Python 3.11 brings, looks past a lock for the newest `package[extra]`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DIST := build/dist
# For two processors: some tests wait for a disk, a server or a deadline.
WORKERS ?= 3
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1

# The tests start hundreds of interpreters, which would compile what they import each time.
tests quick nightly: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test quick nightly lint actions types tests js wheel site vectors bench bench-peers zipapp man image parts rehearse lock clean

help:            ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(STAMP)  ## create the virtual environment
$(STAMP): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --no-index --editable .
	$(BIN)/python -m pip check
	touch $(STAMP)

demo: $(STAMP)   ## sign a real package, verify it, change one byte, watch the refusal
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: $(STAMP)  ## everything; types are checked while the wheel is built and tried, then the tests run
	$(MAKE) --no-print-directory --jobs=2 lint types wheel tests

lint: $(STAMP) actions  ## style and workflow files
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

actions: $(STAMP)  ## workflows, action and hook definitions, without the network
	$(BIN)/zizmor --quiet --offline --strict-collection --persona=pedantic .github action action.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-actions action.yml action/action.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/pre-commit validate-manifest .pre-commit-hooks.yaml
	$(BIN)/pre-commit validate-config .pre-commit-config.yaml
	$(BIN)/shellcheck action/*.sh .ci/run .ci/smoke

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy

tests: $(STAMP) js parts  ## the test suite, documentation examples included
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=25

nightly: $(STAMP) js parts  ## the suite with twenty times the drawn examples, and ten minutes of mutations
	WCP_TESTS=nightly $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=25 -o timeout=3600
	$(BIN)/python -m tests.fuzz --minutes 10

quick: $(STAMP)  ## core and formats in a few seconds, before a push
	WCP_TESTS=quick $(BIN)/python -m pytest -q -n 2 -p no:cacheprovider tests/core/test_strictjson.py tests/core/test_manifest.py \
	  tests/core/test_statement.py tests/core/test_envelope.py tests/core/test_entries.py tests/core/test_proof.py \
	  tests/core/test_outside.py tests/core/test_awp1.py tests/core/test_verification.py

js:              ## other people's verifiers, as a second opinion; says so where there is no Node
	tests/js/install

wheel: $(STAMP)  ## build the wheel twice, compare, install it in an empty environment and use it
	PATH="$(CURDIR)/$(BIN):$$PATH" sh .ci/smoke

site: $(STAMP)   ## build the documentation site into build/site, strictly and without the network
	$(BIN)/python scripts/build_site.py

zipapp: $(STAMP)  ## build dist/wcp-attest.pyz: wcp-attest in one file, for hosts with Python alone
	$(BIN)/python scripts/build_zipapp.py

man: $(STAMP)     ## write manual pages, completions and the SBOM below build/share, as the wheel brings them
	$(BIN)/python scripts/release_files.py build/share

image: $(STAMP)   ## build dist/wcp-attest-image.tar, the container image; needs dpkg-deb and no container engine
	$(BIN)/python scripts/build_image.py

parts: $(STAMP)   ## download what the image is made of, as locked; says so where it cannot be reached
	$(BIN)/python scripts/build_image.py --fetch

rehearse: $(STAMP)  ## do here, in a clone, what the release workflow does before it signs
	$(BIN)/python scripts/rehearse_release.py

vectors: $(STAMP)  ## write tests/vectors again; CI expects no difference
	$(BIN)/python -m tests.vectors.generate

bench: $(STAMP)  ## measure the installed wheel, about ten minutes
	$(BIN)/python -m benchmarks

bench-peers: $(STAMP)  ## install model-signing below build/, for `make bench` to compare with
	$(BIN)/python -m benchmarks --install-peers

lock:            ## write the locked requirements again; needs uv, and apt for those of the image
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  pyproject.toml requirements/dev.in -o requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  pyproject.toml -o requirements/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --constraint requirements/dev.txt pyproject.toml action/build.in -o action/requirements.txt
	$(PYTHON) scripts/build_image.py --lock

clean:           ## remove what the other targets made
	rm -rf $(VENV) build dist .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
