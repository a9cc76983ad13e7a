# Bursar's tasks. Needs python3.11+ with pip, git and make; everything else goes into .tools and .venv.
PORT ?= 8484
DATA_DIR ?= ./data
ARGS ?=
PYTHON ?= python3
UV := PYTHONPATH=.tools $(PYTHON) -m uv
BIN := .venv/bin

.PHONY: help run test prove check bench lock clean
.DEFAULT_GOAL := help

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

run: .venv/.run ## start Bursar with its embedded default on http://127.0.0.1:8484 (PORT=, DATA_DIR=, ARGS=)
	@$(BIN)/bursar demo --port $(PORT) --data-dir $(DATA_DIR) $(ARGS)

test: .venv/.test ## install what tests need and run them all, on SQLite and PostgreSQL
	@sh tests/install_chromium.sh
	@sh tests/install_node.sh
	$(BIN)/python -m pytest -n 2 $(ARGS)

prove: .venv/.test ## the tests that are scaled down in `make test`, whole; goes on where it was (BURSAR_SEED=, ARGS=)
	BURSAR_PROVE=1 $(BIN)/python -m pytest -n 2 $$(grep -lr "tests.support.scale import" tests) $(ARGS)

check: .venv/.test ## ruff, mypy --strict, the floors
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: .venv/.test ## measure start-up, memory and CPU per request, beside nginx and in a large installation
	@$(BIN)/python bench/run.py
	@$(BIN)/python bench/plane/run.py
	@$(BIN)/python bench/plane/curve.py
	@$(BIN)/python bench/plane/durable.py

lock: .tools/.uv ## resolve the requirement files anew (versions and hashes, no index named)
	@for f in run test clients/anthropic clients/beancount clients/litellm clients/openai clients/openrouter; do \
	  $(UV) pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	    --no-annotate requirements/$$f.in -o requirements/$$f.txt || exit 1; done
	@for f in ai-sdk openrouter-sdk; do (cd requirements/clients/$$f && npm update --package-lock-only --ignore-scripts --silent) || exit 1; done

clean: ## remove what make installed (never ./data)
	rm -rf .venv .tools .clients

.tools/.uv:
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --root-user-action=ignore --target .tools uv
	@touch $@

.venv/.made: .tools/.uv
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@touch $@

.venv/.run: .venv/.made requirements/run.txt pyproject.toml
	@test -e .venv/.test || $(UV) pip sync --quiet --compile-bytecode --python .venv --require-hashes requirements/run.txt
	@$(UV) pip install --quiet --compile-bytecode --python .venv --no-deps --editable .
	@touch $@

.venv/.test: .venv/.made requirements/test.txt pyproject.toml
	@$(UV) pip sync --quiet --compile-bytecode --python .venv --require-hashes requirements/test.txt
	@$(UV) pip install --quiet --compile-bytecode --python .venv --no-deps --editable .
	@touch $@ .venv/.run
