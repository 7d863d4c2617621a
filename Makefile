# The only vocabulary: people, hooks and CI call these targets. `make` lists them.

VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PYTHON ?= python3
export DO_NOT_TRACK := true
# Paths may hold spaces: every use is quoted, and nothing below relies on an absolute path.

.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(STAMP)  ## make .venv from requirements.lock (hash-checked), then install the package

$(STAMP): requirements.lock pyproject.toml
	@command -v uv >/dev/null || test -x $(VENV)/uv/bin/uv || \
	  { mkdir -p $(VENV) && $(PYTHON) -m venv $(VENV)/uv && $(VENV)/uv/bin/pip install --quiet --disable-pip-version-check uv; }
	@UV=$$(command -v uv || echo "$(VENV)/uv/bin/uv"); \
	  test -x $(BIN)/python || "$$UV" venv --quiet --allow-existing --python $(PYTHON) $(VENV); \
	  echo "Installing from requirements.lock ..."; \
	  "$$UV" pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock && \
	  "$$UV" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

run: setup  ## retrain the workspace in this folder (the embedded digits by default) and hand off the result
	@$(BIN)/graftline run

test: setup  ## the default tests: quick, offline, no server
	@$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: setup  ## the deployment, the worker and the servers, for minutes and for real
	@$(BIN)/python -m pytest -m slow

faults: setup  ## the longer fault-injection run; writes the table of docs/reliability.md
	@$(BIN)/python -m infra.reliability

coverage: setup  ## the default tests, with the branches they reach; fails below the floor in pyproject.toml
	@$(BIN)/python -m pytest -n auto --dist loadfile --timeout 900 --cov --cov-report=term

mutants: setup  ## change gates, core and tracking in many places: do the tests notice? (two hours; docs/mutation.md)
	@UV=$$(command -v uv || echo "$(VENV)/uv/bin/uv"); "$$UV" pip install --quiet --target "$(VENV)/mutation" \
	  --python $(BIN)/python --constraint requirements.lock --group mutation
	@PYTHONPATH="$(CURDIR)/$(VENV)/mutation" $(BIN)/python -m infra.mutants

check: setup  ## lint, types, layers, dvc.yaml in step
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/graftline render --check

audit: setup  ## known vulnerabilities (asks PyPI), doubtful code, licences of what is installed
	@$(BIN)/python -m infra.audit

format: setup  ## let ruff lay the code out
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: setup  ## the benchmarks; each prints its table
	@for file in benchmarks/bench_*.py; do $(BIN)/python "$$file" || exit 1; done

lock:  ## resolve pyproject.toml anew into requirements.lock: pins and hashes, no addresses
	@UV=$$(command -v uv || echo "$(VENV)/uv/bin/uv"); "$$UV" pip compile --quiet --universal --generate-hashes --no-header \
	  --python-version 3.11 --extra dev pyproject.toml --output-file requirements.lock

servers: setup  ## start an MLflow server, a Prefect server and a worker on this machine; returns when they answer
	@$(BIN)/python -m infra.servers start

servers-stop: setup  ## stop them
	@$(BIN)/python -m infra.servers stop

.PHONY: help setup run test test-slow faults coverage mutants check audit format bench lock servers servers-stop
