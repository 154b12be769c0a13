# The project's commands for people and workflows. `make` without a target lists the tasks.
# tools/template.mk adds the tasks that need the engine's source; a lean fork has only this file.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# The locked environment and the pinned Go programs live in a cache outside the clone.
ENV = $$(tools/environment)
PY = PYTHONPATH=src "$(ENV)/bin/python"
# Bytecode is written even where the machine says not to: several workers import each test file, and tests start the engine often.
PYTEST = PYTHONDONTWRITEBYTECODE= PATH="$(ENV)/bin:$(shell pwd):$$PATH" $(PY) -m pytest
TESTS = --pyargs loop.contract $(wildcard tests)
# `make lock` resolves WANTED into requirements.lock; folders in LOCKED have packages and a lock of their own.
WANTED = requirements.in
LOCKED = bentos/* src/models/*
UV_VERSION = $(shell sed -n 's/^uv_version=\([0-9.]*\).*/\1/p' tools/environment)
WHEELS = $(shell sed -n "s/^wheels='\(.*\)'.*/\1/p" tools/environment)
# Locks are resolved from wheels only, because resolving a package without a wheel would run its setup.py. Only releases
# that are a week old are chosen, so that a bad release is noticed first; UV_EXCLUDE_NEWER=2026-11-01T00:00:00Z sets
# another time.
UV = UV_EXCLUDE_NEWER="$${UV_EXCLUDE_NEWER:-7 days}" "$${LOOP_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/loop}/uv-$(UV_VERSION)/bin/python" -m uv pip compile --universal --python-version 3.11 \
     --generate-hashes --no-annotate --no-header --fork-strategy fewest $(WHEELS) --quiet $(ARGS)

.PHONY: help
help: ## List the tasks
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.PHONY: setup
setup: ## Make the environment, build the Go programs, link .venv for your editor
	@tools/needs setup
	@env=$(ENV) && ln -sfn "$$env" .venv && tools/programs >/dev/null && ./loop doctor

.PHONY: demo
demo: ## Play the whole loop on this machine, in a scratch clone: make demo MODEL=churn
	@tools/needs demo
	@tools/programs >/dev/null
	@./loop demo $(if $(MODEL),--model $(MODEL)) $(ARGS)

.PHONY: test
test: ## Run every test; `make test ARGS="-m 'not slow'"` is the quick half
	@tools/needs test
	@tools/programs >/dev/null
	@$(PYTEST) $(TESTS) $(ARGS)

.PHONY: lint
lint: ## Check the code and the workflows: ruff, actionlint, zizmor, and for the engine's source mypy and lint-imports
	@tools/needs lint
	@env=$(ENV) && programs=$$(tools/programs) && export PYTHONPATH=src && set -x && \
	"$$env/bin/ruff" check . && $(LINT_ENGINE) "$$programs/actionlint" && \
	"$$env/bin/zizmor" --offline --quiet --persona auditor .github

.PHONY: format
format: ## Format the code
	@"$(ENV)/bin/ruff" format . && "$(ENV)/bin/ruff" check --fix .

.PHONY: train
train: ## Run the pipeline and register the trained model: make train MODEL=churn
	@./loop train "$${MODEL:?is missing; for example, MODEL=churn; make models trains all}"

.PHONY: models
models: ## Train and register every model on the sources in params.yaml
	@./loop train

.PHONY: serve
serve: ## Serve the model that the pipeline trained: make serve MODEL=churn
	@./loop bento $(MODEL) && ./loop serve $(MODEL)

.PHONY: report
report: ## Write a site of pages about every model into build/report
	@./loop report $(ARGS)

.PHONY: lock
lock: ## Resolve the wanted packages into hashed locks (ARGS=--upgrade updates every version)
	@tools/environment >/dev/null && $(UV) $(WANTED) -o requirements.lock
	$(LOCK_ENGINE)
	@for wanted in $(LOCKED:%=%/requirements.in); do test ! -f $$wanted || $(UV) -c requirements.lock $$wanted -o $${wanted%.in}.lock; done
	@for wanted in $(LOCKED:%=%/requirements-cuda.in); do test ! -f $$wanted || $(UV) -c requirements-gpu.lock $$wanted -o $${wanted%.in}.lock; done

ifneq ($(wildcard tools/template.mk),)
include tools/template.mk
else
.PHONY: test-marked
test-marked: test # CI runs it if a change touches only some folders; a fork's own tests are quick enough to run all of them
endif
