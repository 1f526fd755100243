# The project's verbs. `make` alone says what there is; `make demo` and `make test` are all a new machine needs.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Workers for the tests; each makes databases of its own.
WORKERS ?= 2
# A Python of your choice: make PYTHON=/path/to/python3.13 …
PYTHON ?=
ARGS ?=
export PYTHONDONTWRITEBYTECODE ?=

.PHONY: help
help: ## This list
	@echo "make TARGET   (the first one also prepares .venv; it needs Python 3.11 or newer and nothing else)"; echo
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo; echo "  ARGS=… is handed on, e.g. make demo ARGS=--exit, make serve ARGS='--port 9000', make test ARGS='-k quorum'"

# A stamp file: the environment is made once, and again when what is locked changes.
$(READY): requirements-dev.lock pyproject.toml tools/find_python.sh
	@python="$$(tools/find_python.sh '$(PYTHON)')"; \
	if [ ! -x $(BIN)/python ] || ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	    echo "making $(VENV) with $$python"; \
	    "$$python" -m venv --clear $(VENV) || { \
	        echo "Python's venv module does not work here. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; \
	fi
	@echo "installing what requirements-dev.lock names, by hash"
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $(READY)

.PHONY: venv
venv: $(READY) ## Prepare .venv from the lock and stop

# -- running it --------------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(READY) ## Everything at once: PostgreSQL, examples, people, approvals; leaves a server (ARGS=--exit: stops)
	@$(BIN)/pliers demo $(ARGS)

.PHONY: serve
serve: $(READY) ## The server on the database of PLIERS_DATABASE__URL, else on an embedded one
	@$(BIN)/pliers serve $(ARGS)

.PHONY: replay
replay: $(READY) ## Replay a real log through REST: make replay LOG=cases.jsonl.gz EXPECTED=expected.json
	@test -n "$(LOG)" -a -n "$(EXPECTED)" || { echo "usage: make replay LOG=cases.jsonl.gz EXPECTED=expected.json" >&2; exit 2; }
	@$(BIN)/pliers replay "$(LOG)" --expected "$(EXPECTED)" $(ARGS)

# -- judging it --------------------------------------------------------------------------------------------------------

.PHONY: test
test: check ## Checks and all tests, with a real PostgreSQL (under 15 minutes on two cores)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

.PHONY: test-fast
test-fast: $(READY) ## The pure packages only: seconds, no database
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow" tests/definition tests/interpreter tests/properties tests/conformance $(ARGS)

# How many times as long random tests try.
TIMES ?= 20

.PHONY: properties
properties: $(READY) ## The random tests of the interpreter, TIMES as long: make properties TIMES=100
	PLIERS_TEST_EFFORT=$(TIMES) $(BIN)/python -m pytest -q -n $(WORKERS) --timeout 3600 tests/properties $(ARGS)

.PHONY: conformance
conformance: $(READY) ## The statechart cases of a folder through our definitions: make conformance CASES=folder
	$(BIN)/python -m tests.conformance.run $(CASES)

.PHONY: check
check: $(READY) ## Formatting, lints, types, import contracts, the lock
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/check_project.py

.PHONY: format
format: $(READY) ## Put the code into shape
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

# Seeds of the torture test, and how long each is loaded and broken.
SEEDS ?= 1 2
SECONDS_EACH ?= 60

.PHONY: torture
torture: $(READY) ## Three nodes under load, killed, cut off and drained: make torture SEEDS="1 2" SECONDS_EACH=60
	@$(BIN)/python -m torture --seeds "$(SEEDS)" --seconds "$(SECONDS_EACH)" $(ARGS)

.PHONY: bench
bench: $(READY) ## Benchmarks: a table, and last a line of JSON
	@$(BIN)/python -m benchmarks $(ARGS)

# -- giving it away ----------------------------------------------------------------------------------------------------

.PHONY: wheel
wheel: $(READY) ## dist/*.whl
	@rm -rf dist && $(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . && ls dist

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --no-annotate pyproject.toml --extra embedded --extra script \
    --extra nats --extra rabbitmq --extra redis --extra kafka

.PHONY: lock
lock: $(READY) ## Make the lock files anew (UPGRADE=1: with the newest versions)
	$(LOCK) $(if $(UPGRADE),--upgrade) -o requirements.lock
	$(LOCK) --group dev -c requirements.lock $(if $(UPGRADE),--upgrade) -o requirements-dev.lock
	$(BIN)/python tools/check_project.py

.PHONY: clean
clean: ## Remove what was made here, the demo's database too
	rm -rf $(VENV) .pliers dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
