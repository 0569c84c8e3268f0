# Needs Linux, make and Python >= 3.11; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Some pip versions warn of themselves; the lines would hide what matters.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help quickstart test check gate format lint types wheel bench-overhead bench-encoder bench-masks bench-referee bench-gate bench-dashboard bench-fleet clean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

quickstart: $(VENV)/installed  ## Install, then measure SAM's encoder on this machine
	$(BIN)/sam-bench quickstart

test: $(VENV)/installed-test  ## Run all tests
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

check: lint types test gate  ## What CI runs: format, lint, types, tests, the gate

gate: $(VENV)/installed-test  ## What must be the same at every run, of this project itself
	$(BIN)/sam-bench check --config tests/baselines/gate.toml --baselines tests/baselines

format: $(VENV)/installed-test  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/installed-test
	$(BIN)/mypy

bench-overhead: $(VENV)/installed-test  ## What the timer's hooks cost a forward
	$(BIN)/python tests/benches/overhead.py $(ARGS)

bench-encoder: $(VENV)/installed-test  ## Our encoder beside upstream's and transformers', in one run
	$(BIN)/python -m tests.benches.encoder $(ARGS)

bench-masks: $(VENV)/installed-test  ## Our mask generator beside upstream's, in one run
	$(BIN)/python tests/benches/masks.py $(ARGS)

bench-referee: $(VENV)/installed-test  ## Our latency beside what others measure, in one run
	$(BIN)/python tests/benches/referee.py $(ARGS)

bench-gate: $(VENV)/installed-test  ## How often the gate cries wolf, and what it finds
	$(BIN)/python -m tests.benches.gate $(ARGS)

bench-dashboard: $(VENV)/installed-test  ## How fast the pages are on a large store
	$(BIN)/python tests/benches/dashboard.py $(ARGS)

bench-fleet: $(VENV)/installed-test  ## How well a fleet is used, on paper, and how large a store may grow
	$(BIN)/python -m tests.benches.fleet $(ARGS)

clean:  ## Remove the environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "sam-bench needs Python >= 3.11; name one with: make PYTHON=python3.12 ..."; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 2; }

$(VENV)/installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV) (torch is large; a minute or two) ..."
	$(PIP) --editable .
	@touch $@

$(VENV)/installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV), with test tools (torch is large; a minute or two) ..."
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/installed
