# Every target makes its own virtual environment; nothing needs root or a container.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two processes, as servers are waited for; tests that share one run in the same.
PYTEST := $(BIN)/pytest -n 2 --dist loadgroup
# "VAR=value make" changes nothing tracked: these are the same on every machine.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo bench test test-all lint format clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## Make the virtual environment

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup ## Rank the MovieLens catalogue for a user on a real Triton server and compare the arms
	$(BIN)/cleave demo

bench: setup ## Measure every arm of append and vista with perf_analyzer: a report in .cleave/bench/smoke
	$(BIN)/cleave bench smoke

test: setup lint ## Run the linters, the type checker and the tests but the long ones
	$(PYTEST) -m 'not long'

test-all: setup lint ## Run the linters, the type checker and all tests, more examples of each property among them
	$(PYTEST) --hypothesis-profile thorough

lint: setup ## Run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment, caches and built artifacts
	rm -rf $(VENV) .cleave *.egg-info model_repository/*/1
