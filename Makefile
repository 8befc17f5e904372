# The commands of this project. Each is a line or two that can be run by hand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: help install samples run test check images bench bench-smoke clean

help:            ## this text
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1|/' | column -t -s '|'

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

install: $(STAMP)  ## the virtual environment with everything in it

samples: $(STAMP)  ## compile the samples that need it (skipped, and said, without their compiler)
	@$(MAKE) --no-print-directory -C sample_functions

run: $(STAMP) samples  ## the cloud, on sample_functions/ (ARGS='--port 0 …' adds flags)
	@exec $(BIN)/faas up sample_functions $(ARGS)

check: $(STAMP)  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

test: check samples  ## check, then all tests
	$(BIN)/python -m pytest -n auto $(ARGS)

images: $(STAMP) samples  ## all container images, the emulator's own too, without an image registry
	$(BIN)/python -m emulator.sandbox.images $(ARGS)
	$(BIN)/python runtimes/emulator/pack.py

bench: $(STAMP)  ## measure against floors taken in the same run
	$(BIN)/python -m tests.benchmark $(ARGS)

bench-smoke: $(STAMP)  ## does the benchmark itself work?
	$(BIN)/python -m tests.benchmark --quick

clean:           ## the environment and what runs have left
	-$(BIN)/faas clean
	rm -rf $(VENV) .faas sample_functions/.faas .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .build
