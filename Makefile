# `make train` trains and evaluates a first model; `make test` runs the quick tests, `make check` all checks.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# Two processes of one thread each are faster than one of two: most tests do little arithmetic.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: setup train test check slow docs layers lint types format coverage test-slow clean

setup: $(INSTALLED)

train: setup
	$(BIN)/python tools/train.py --config coco_small.yaml $(ARGS)

# Quick tests: a few minutes.
test: setup
	$(PYTEST) -m "not slow and not stress"

# Everything but the tests that take longest.
check: lint types layers docs test test-slow

test-slow: setup
	$(PYTEST) -m "slow and not stress" --durations=15

slow: setup
	$(PYTEST) -m stress --durations=15

docs: setup
	$(BIN)/mkdocs build --strict --site-dir build/site

layers: setup
	$(BIN)/lint-imports

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Apart from `check`: it makes tests half as slow again.
coverage: setup
	$(PYTEST) -m "not stress" --cov

# Installed anew only when pyproject.toml or setup.py changes, so that a second call starts at once.
$(INSTALLED): pyproject.toml setup.py
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "detr_lite needs Python 3.11 or newer; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || \
		{ echo "Python's venv module is missing; install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev,loggers,docs]"
	@touch $(INSTALLED)

clean:
	rm -rf .venv build *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache
