# What a person types; workflows and .ci/run type the same. `make` alone lists the tasks.
# tools/template.mk adds to it where the engine's source is; a fork without the source has this file alone.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# The locked environment and the pinned Go programs live in a cache outside the clone.
ENV = $$(tools/environment)
PY = PYTHONPATH=src "$(ENV)/bin/python"
PYTEST = PATH="$(ENV)/bin:$(shell pwd):$$PATH" $(PY) -m pytest
TESTS = --pyargs loop.contract $(wildcard tests)
# What `make lock` resolves into requirements.lock, and the folders beside it that have packages of their own.
WANTED = requirements.in
LOCKED = bentos/* src/models/*
UV_VERSION = $(shell sed -n 's/^uv_version=\([0-9.]*\).*/\1/p' tools/environment)
WHEELS = $(shell sed -n "s/^wheels='\(.*\)'.*/\1/p" tools/environment)
# Wheels only, as resolving would run the setup.py of what has none. A release is a week old before it is
# chosen, so that others find what is wrong with it; UV_EXCLUDE_NEWER=2026-11-01T00:00:00Z says otherwise.
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
demo: ## Turn the whole circle on this machine, in a scratch clone: make demo MODEL=churn
	@tools/needs demo
	@tools/programs >/dev/null
	@./loop demo $(if $(MODEL),--model $(MODEL)) $(ARGS)

.PHONY: test
test: ## Run every test; `make test ARGS="-m 'not slow'"` is the quick half
	@tools/needs test
	@tools/programs >/dev/null
	@$(PYTEST) $(TESTS) $(ARGS)

.PHONY: lint
lint: ## Check code and workflows: ruff, actionlint, zizmor, and what else lints the engine where its source is
	@tools/needs lint
	@env=$(ENV) && programs=$$(tools/programs) && export PYTHONPATH=src && set -x && \
	"$$env/bin/ruff" check . && $(LINT) "$$programs/actionlint" && \
	"$$env/bin/zizmor" --offline --quiet --persona auditor .github

.PHONY: format
format: ## Format the code
	@"$(ENV)/bin/ruff" format . && "$(ENV)/bin/ruff" check --fix .

.PHONY: train
train: ## Run the pipeline and register what it trains: make train MODEL=churn
	@./loop train "$${MODEL:?is missing: MODEL=churn, say; make models trains all}"

.PHONY: models
models: ## Train and register every model, on the sources that params.yaml pins
	@./loop train

.PHONY: serve
serve: ## Serve the model that the pipeline trained: make serve MODEL=churn
	@./loop bento $(MODEL) && ./loop serve $(MODEL)

.PHONY: report
report: ## Write build/report: how every model is, as pages that need no server
	@./loop report $(ARGS)

.PHONY: lock
lock: ## Resolve the packages that are wanted into hashed locks (ARGS=--upgrade moves every version)
	@tools/environment >/dev/null && $(UV) $(WANTED) -o requirements.lock
	$(LOCK_ENGINE)
	@for wanted in $(LOCKED:%=%/requirements.in); do test ! -f $$wanted || $(UV) -c requirements.lock $$wanted -o $${wanted%.in}.lock; done
	@for wanted in $(LOCKED:%=%/requirements-cuda.in); do test ! -f $$wanted || $(UV) -c requirements-gpu.lock $$wanted -o $${wanted%.in}.lock; done

ifneq ($(wildcard tools/template.mk),)
include tools/template.mk
else
.PHONY: test-marked
test-marked: test # CI calls it where a change touches only some folders; a fork's own tests are quick
endif
