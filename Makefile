# ACMF. `make help` lists the targets. Needs Python 3.11 and make, nothing else.
PYTHON ?= $(or $(shell command -v python3.11),$(shell command -v python3))
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PIP := $(BIN)/python -m pip install -q -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

# make demo CANDLES=bars.parquet [FUNDING=funding.parquet] | SYNTHETIC=1
DEMO := $(if $(CANDLES),--candles "$(CANDLES)") $(if $(FUNDING),--funding "$(FUNDING)") $(if $(SYNTHETIC),--synthetic)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-slow check format bench lab clean

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.runtime ## create .venv with exact pins (research and production)
setup-dev: $(VENV)/.dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
	  || { echo "make: Python 3.11 is needed ($(PYTHON) is not it); install it or run make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "set-up: installing pinned packages into $(VENV) (once, a few minutes)"
	@$(PIP) -e '.[research,production]'
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	@echo "set-up: adding the development tools"
	@$(PIP) -e '.[research,production,dev]'
	@touch $@

demo: $(VENV)/.runtime ## the main job end to end; CANDLES=file for your own bars, SYNTHETIC=1 without network
	@$(BIN)/acmf demo $(DEMO)

test: $(VENV)/.dev ## every test but the slow ones
	@$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow"

test-slow: $(VENV)/.dev ## the tests that take minutes
	@$(BIN)/python -m pytest -m slow --timeout 1800

check: $(VENV)/.dev ## lint, format, types, import contracts, notebooks without outputs
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python notebooks/check.py

format: $(VENV)/.dev ## mend what the linter can mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## time the hot paths on this machine
	@$(BIN)/python -m benchmarks

lab: $(VENV)/.runtime ## JupyterLab with everything importable
	@PYTHONSTARTUP="$(CURDIR)/notebooks/startup.py" $(BIN)/jupyter lab notebooks

clean: ## remove the environment, caches and everything generated
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache reports state data_lake/store
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
