# Two commands do everything on a fresh machine: `make bench` and `make test`.
# PYTHON makes the environment, VENV; everything then runs with the environment's own interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# torch-tensorrt and torch-tensorrt-rtx exclude each other. EXTRAS=tensorrt chooses the first.
EXTRAS ?= rtx
CONSTRAINTS ?= ci/constraints.txt
ARGS ?=
# The slow tests build every workload in every precision; `make test-all` runs them.
TESTS ?= -m 'not slow'

.PHONY: bench test test-all lint install clean

bench: $(VENV)/.bench
	PYTHON=$(BIN)/python ci/bench.sh $(ARGS)

install: $(VENV)/.bench

# Two processes: the tests share no device and no files.
test: $(VENV)/.dev
	$(BIN)/python -m pytest tests -n 2 $(TESTS) $(ARGS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest tests -n 2 $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.bench: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.bench
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS),quantize,dev]'
	touch $@

clean:
	rm -rf $(VENV) .trtgate
