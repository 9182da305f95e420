.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= 2

##@ Use it

.PHONY: run
run: $(VENV)/.run  ## Start the gateway: answers at once, with no model anywhere
	@exec $(BIN)/python -m gateway demo

.PHONY: setup
setup: $(VENV)/.dev  ## Make the virtual environment with everything the checks and tests need

##@ Prove it

.PHONY: test
test: check  ## All checks and all tests: the whole truth, what CI calls
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests

.PHONY: fast
fast: $(VENV)/.dev  ## The tests that need no server, in seconds
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow" --ignore tests/contract --ignore tests/system tests

.PHONY: full
full: check  ## All tests at the catalogue's full sizes; for the night
	GATEWAY_TEST_SIZE=full $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --timeout 3600 tests

.PHONY: check
check: $(VENV)/.dev  ## Format, lint, types, import contracts, documents in sync
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

.PHONY: bench
bench: $(VENV)/.dev  ## Processor time a request and a chunk, beside the peers that are installed
	$(BIN)/python -m loadtests.bench $(BENCH)

.PHONY: bench-peers
bench-peers: $(VENV)/.dev  ## Install the peers that the bench compares with
	$(BIN)/python -m loadtests.bench.peers

##@ Change it

.PHONY: format
format: $(VENV)/.dev  ## Format the code and mend what can be mended by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: docs
docs: $(VENV)/.dev  ## Write the generated documents anew
	$(BIN)/python -m docs.generate

.PHONY: lock
lock: $(VENV)/.dev  ## Pin the newest versions of all dependencies, with hashes
	$(BIN)/uv pip compile requirements.in -o requirements.txt $(LOCK_FLAGS)
	$(BIN)/uv pip compile requirements-dev.in -o requirements-dev.txt $(LOCK_FLAGS)

LOCK_FLAGS := --quiet --upgrade --generate-hashes --universal --python-version 3.11 \
  --no-emit-index-url --custom-compile-command "make lock"

.PHONY: clean
clean:  ## Remove everything that was made, except data/
	rm -rf $(VENV) .peers .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build

.PHONY: help
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*##/ {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo

# -- the virtual environment, made anew when its requirements change ----------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "Python's venv module is missing (on Debian: apt install python3-venv)"; exit 1; }

$(VENV)/.run: requirements.txt | $(BIN)/python
	@echo "Installing the pinned requirements ..."
	@$(PIP) install --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.run | $(BIN)/python
	@echo "Installing what the checks and tests need ..."
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@touch $@
