# Every target makes its own virtual environment; nothing needs root or a container.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two processes, as servers are waited for; tests that share one run in the same.
PYTEST := $(BIN)/pytest -n 2 --dist loadgroup
# For the image's Python and C library, not for those of this machine; of torch the build for processors.
LOCK := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-annotate --custom-compile-command "make lock" \
    --python-version 3.11 --python-platform x86_64-manylinux_2_36
LOCK_OPTIONS := --torch-backend cpu
# "VAR=value make" changes nothing tracked: these are the same on every machine.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo bench image lock test test-all test-image lint format clean

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

image: ## Build the image of the target cpu with docker, podman or buildah; deploy/build_image.sh says with what options
	deploy/build_image.sh

lock: setup ## Pin what the image of the target cpu is made of, each package with its hashes, in deploy/lock
	$(LOCK) $(LOCK_OPTIONS) --extra commands --output-file deploy/lock/cpu.txt pyproject.toml
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'])" \
	    | $(LOCK) --output-file deploy/lock/build.txt -

test: setup lint ## Run the linters, the type checker and the tests but the long ones
	$(PYTEST) -m 'not long'

test-all: setup lint ## Run the linters, the type checker and all tests, more examples of each property among them
	$(PYTEST) -m 'not image' --hypothesis-profile thorough

test-image: setup ## Build the image of the target cpu on a stand-in base and run it in containers (root, podman)
	$(BIN)/pytest -m image

lint: setup ## Run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## Format the code and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment, caches and built artifacts
	rm -rf $(VENV) .cleave *.egg-info model_repository/*/1
