# Every target does its own set-up in .venv; nothing but Python 3.11+, pip and make is assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

FLOORS := .venv-floors
PIP_INSTALL := install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test lint test-floors hooks docs bench clean

demo: $(STAMP)-plot
	$(BIN)/python examples/demo.py

test: lint
	$(BIN)/python $(PYTEST) --cov --cov-report=term

lint: $(STAMP)-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The oldest libraries that pyproject.toml allows, in an environment of its own.
test-floors: $(FLOORS)/.installed
	$(FLOORS)/bin/python $(PYTEST)

hooks: $(STAMP)-test $(STAMP)-hooks
	$(BIN)/pre-commit install

docs: $(STAMP)-docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: $(STAMP)-bench
	$(BIN)/python benchmarks/price.py
	$(BIN)/python benchmarks/alternatives.py
	$(BIN)/python benchmarks/last_layer.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/image_files.py
	$(BIN)/python benchmarks/grid_search.py
	$(BIN)/python benchmarks/localization.py
	$(BIN)/python benchmarks/spurious_cue.py
	$(BIN)/python benchmarks/editing.py
	$(BIN)/python benchmarks/long_trainings.py
	$(BIN)/python benchmarks/kills.py
	$(BIN)/python benchmarks/soak.py

clean:
	rm -rf $(VENV) $(FLOORS) benchmarks/.cabrnet demo_output .coverage .*_cache \
		docs/_build docs/auto_examples docs/generated docs/sg_execution_times.rst

$(STAMP)-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip $(PIP_INSTALL) --editable ".[$*]"
	touch $@

$(FLOORS)/.installed: pyproject.toml constraints.txt tools/floors.py
	test -x $(FLOORS)/bin/python || $(PYTHON) -m venv $(FLOORS)
	$(FLOORS)/bin/python tools/floors.py > $(FLOORS)/floors.txt
	$(FLOORS)/bin/pip $(PIP_INSTALL) --constraint $(FLOORS)/floors.txt --editable ".[test]"
	touch $@
