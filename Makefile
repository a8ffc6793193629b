# make demo | test | lint | types | bench | clean       (needs only Python 3.11+ and make)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types format bench clean
.DELETE_ON_ERROR:

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "gfdt needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`. Run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing gfdt and what it needs into $(VENV) (a few minutes the first time)" >&2
	$(PIP) -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing gfdt with its test tools into $(VENV) (a few minutes the first time)" >&2
	$(PIP) -e ".[dev]"
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime
	$(BIN)/gfdt demo --out demo-output --overwrite

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.runtime
	$(BIN)/python benchmarks/ou.py
	$(BIN)/python benchmarks/response.py

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-output dist build .pytest_cache .mypy_cache .ruff_cache
	find gfdt simulators tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
