# Start with `make demo`. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
BIN := $(VENV)/bin
BASE := $(VENV)/.base
READY := $(VENV)/.ready
# Packages are installed without bytecode. If it were not written either, every process would compile PyTorch again.
export PYTHONDONTWRITEBYTECODE :=
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt

.PHONY: help demo studio test test-gpu lint format reference bench clean

help:
	@echo "make demo       install into .venv, generate 48 faces, keep the best 16"
	@echo "make studio     install into .venv and open the browser app, with the folder my-project"
	@echo "make test       run the tests"
	@echo "make test-gpu   run the tests that need a CUDA device, in about five minutes"
	@echo "make lint       run ruff and mypy"
	@echo "make format     format the source with ruff"
	@echo "make reference  update the generated tables in docs/reference"
	@echo "make bench      compare speed with other implementations (installed into .venv-bench)"
	@echo "make clean      remove .venv, .venv-bench and caches"

$(BASE): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Kyara needs Python 3.11 to 3.13. Choose one: make demo PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch numpy
	$(INSTALL) --editable '.[studio]'
	@touch $@

$(READY): $(BASE)
	$(INSTALL) --editable '.[dev]'
	@touch $@

demo: $(BASE)
	$(BIN)/kyara generate --count 48 --keep 16 --out avatars --force

studio: $(BASE)
	$(BIN)/kyara studio my-project

test: $(READY)
	$(BIN)/pytest --numprocesses auto --dist worksteal

test-gpu: $(READY)
	$(BIN)/pytest -rA tests/cuda

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks tools
	$(BIN)/ruff format src tests benchmarks tools

reference: $(READY)
	$(BIN)/python tools/reference.py

$(BENCH)/.ready: benchmarks/requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "The other implementations need Python 3.11 or 3.12. Choose one: make bench PYTHON=python3.12")'
	$(PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/pip install --quiet --requirement benchmarks/requirements.txt
	$(BENCH)/bin/pip install --quiet --no-deps --editable .
	@touch $@

bench: $(BENCH)/.ready
	$(BENCH)/bin/python benchmarks/run.py

clean:
	rm -rf $(VENV) $(BENCH) .mypy_cache .ruff_cache .pytest_cache
