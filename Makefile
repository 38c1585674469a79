# One word each: `make train` trains and measures the first model, `make test` tests, `make check` checks everything.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
# Two processes of one thread each take less time than one of two: most tests wait for something else than arithmetic.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: train test check setup format lint types layers test-all coverage clean

train: setup
	$(BIN)/python tools/train.py --config coco_small.yaml $(ARGS)

test: setup
	$(PYTEST) -m "not slow"

check: lint types layers test-all

setup: $(INSTALLED)

# Installed anew only when pyproject.toml changes, so that a second call starts at once.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "detr_lite needs Python 3.11 or newer; name one with: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c "import venv, ensurepip" 2>/dev/null || \
		{ echo "Python's venv module is missing; install it (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev,loggers]"
	@touch $(INSTALLED)

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports

test-all: setup
	$(PYTEST) --durations=15

# Apart from `check`, whose tests would take half as long again.
coverage: setup
	$(PYTEST) --cov

clean:
	rm -rf .venv build *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache
