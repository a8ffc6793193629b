# make demo | test | lint | types | docs | bench | bench-speed | clean       (needs only Python 3.11+ and make)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCH := .venv-bench
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint types docs format bench bench-speed bench-speed-quick clean clean-kernels
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

$(VENV)/.docs: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing gfdt with what its site is built with into $(VENV) (a few minutes the first time)" >&2
	$(PIP) -e ".[docs]"
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

# The site, docs/_build/html/index.html. Notebooks are executed in their small setting (GFDT_QUICK=0: as they are) and kept
# until the code changes; they are why the first build takes minutes.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -b html -W --keep-going -q -d docs/_build/doctrees docs docs/_build/html
	@echo docs/_build/html/index.html

bench: $(VENV)/.runtime bench-speed
	$(BIN)/python benchmarks/ou.py
	$(BIN)/python benchmarks/response.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/response_speed.py matrix-256 field-32 --response

# The other solvers live in an environment of their own, about 2 GB. pyqg has no wheel: it needs an old Cython (pinned)
# and a flag for NumPy 2; if its build fails, only its row is missing.
BENCH_PINS := $(CURDIR)/benchmarks/constraints-bench.txt
BENCH_PIP := $(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -c $(BENCH_PINS)

$(BENCH)/.peers: pyproject.toml constraints.txt benchmarks/constraints-bench.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH_PIP) -e . exponax jax-cfd torch-cfd pyFFTW fluidfft fluidsim
	-CFLAGS=-DCYTHON_CCOMPLEX=0 PIP_CONSTRAINT=$(BENCH_PINS) PIP_BUILD_CONSTRAINT=$(BENCH_PINS) $(BENCH_PIP) pyqg
	@touch $@

bench-speed: $(BENCH)/.peers
	$(BENCH)/bin/python benchmarks/speed/run.py --out benchmarks/speed/results --images docs/images

bench-speed-quick: $(BENCH)/.peers
	$(BENCH)/bin/python benchmarks/speed/run.py --quick

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# numba's cache looks at the time stamp of a kernel's own file, not of those it calls
clean-kernels:
	find simulators -name '*.nb[ic]' -delete

clean:
	rm -rf $(VENV) $(BENCH) demo-output dist build docs/_build .pytest_cache .mypy_cache .ruff_cache
	find gfdt simulators tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
