# Two commands on a fresh machine: `make quickstart` and `make test`. Both set up .venv first.
PYTHON ?= python3.11
BIN := .venv/bin
MARKERS ?= not slow and not data
WORKERS ?= 2

.PHONY: setup quickstart test lint docs
setup: .venv/.dev

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[quickstart]'
	touch $@

# What the tests need beside: launchers, Optuna, linters ...
.venv/.dev: .venv/.ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[quickstart,dev]'
	touch $@

quickstart: .venv/.ready
	$(BIN)/python train.py

# The site, in site/
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadscope -m '$(MARKERS)'
