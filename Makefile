# make run | make test | make check: each makes what it needs; a second run reuses it.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help run environment test test-fast soak fuzz check lint types site docs reference screenshots format requirements clean

help:
	@echo "make help          this list"
	@echo "make run           start Label Studio with the demo project and the backend"
	@echo "make environment   install what the tests need beside this project"
	@echo "make test          run every test; installs what they need first: Label Studio, Azure's emulators with node, Chromium"
	@echo "make test-fast     run the tests that need none of these: about a minute"
	@echo "make soak          kill, stop and fill everything for MINUTES=10, and compare what is left with what was answered"
	@echo "make fuzz          send REQUESTS=10000 changed requests to a server, and check each answer"
	@echo "make check         lint, types, import rules, and the documentation without warnings"
	@echo "make lint          the linter, the formatter and the import rules"
	@echo "make types         the type checker"
	@echo "make site          the documentation without warnings, and whether its generated pages are current"
	@echo "make docs          build the documentation into site/"
	@echo "make reference     write the pages of the documentation that are made from the code"
	@echo "make screenshots   take the screenshots of the documentation, by the end-to-end test"
	@echo "make format        apply the formatter and the linter's own fixes"
	@echo "make requirements  write the requirements of Azure ML's image from pyproject.toml"
	@echo "make clean         remove the virtual environments, the demo's state and caches"

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"taxonomist needs Python 3.11 to 3.13, this is {v.major}.{v.minor}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

run: $(VENV)/.installed
	$(BIN)/taxonomist --home .demo demo --environment .venv-label-studio

environment: $(VENV)/.installed
	$(BIN)/python -m tests.environment

# Three processes, also on two cores: many tests wait for servers, time limits and processes that were killed.
test: environment
	$(BIN)/python -m pytest -n 3 --dist loadscope --durations 15

test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest -x -n 2 -m "not slow and not e2e"

MINUTES ?= 10
soak: $(VENV)/.installed
	$(BIN)/python -m tests.soak --minutes $(MINUTES)

REQUESTS ?= 10000
fuzz: $(VENV)/.installed
	$(BIN)/python -m tests.fuzz --requests $(REQUESTS)

check: lint types site

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed
	$(BIN)/mypy

site: $(VENV)/.installed
	$(BIN)/python -m scripts.reference --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# Open site/index.html afterwards.
docs: reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

reference: $(VENV)/.installed
	$(BIN)/python -m scripts.reference

# The test that takes the screenshots of the documentation needs Label Studio and Chromium, as `make test` does.
screenshots: environment
	SCREENSHOTS=docs/images $(BIN)/python -m pytest -n 0 tests/e2e/test_loop.py::test_the_loop

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Azure ML builds the image of its steps from this file alone.
requirements:
	$(PYTHON) deploy/azureml_requirements.py > deploy/azureml/environment/requirements.txt

clean:
	rm -rf $(VENV) .venv-* .demo .cache site
