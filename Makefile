# Each target installs what it needs. `make demo` and `make test` are enough on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests are run side by side; two workers fit into 12 GB with torch and TensorFlow loaded in their jobs.
WORKERS ?= 2

INSTALLED := $(VENV)/.installed

.PHONY: setup demo test lint bench clean
.DEFAULT_GOAL := help

help:
	@echo "make setup  create $(VENV) with everything pinned"
	@echo "make demo   check a real model, then a damaged copy of it"
	@echo "make test   run the tests"
	@echo "make lint   ruff, mypy --strict, import-linter"
	@echo "make bench  time and memory of a full check beside the bare minimum"

setup: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "onnxeq needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/python benchmarks/demo.py

test: $(INSTALLED)
	# torch and TensorFlow crash when both are loaded into one process: they are tested apart.
	$(BIN)/python -m pytest -n $(WORKERS) -m "not keras"
	$(BIN)/python -m pytest -n $(WORKERS) -m keras

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python benchmarks/check_cost.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
