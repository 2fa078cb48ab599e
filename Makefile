# Every target begins with tools/setup, which installs what is missing and is quick when nothing is.

.DEFAULT_GOAL := help
.PHONY: help setup check test faults chaos soak fuzz test-gre demo bench docs deb fmt lock audit sbom clean

BIN := .venv/bin
TUNNEL ?=
SEED ?= 1
N ?= 1
FIRST ?= 0
DURATION ?= 40
EFFORT ?= 50
NAME ?=
MINUTES ?= 60

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing and build .venv
	@tools/setup test

check: ## format, lint, types, import layers, unit and property tests: seconds, no root
	@tools/setup check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit tests/property

test: ## everything, in one run of pytest; needs root
	@tools/setup test
	@$(BIN)/pytest

faults: ## every fault in the lab, also those that take minutes; 50 minutes
	@tools/setup test
	@PROXYPOOL_LONG=1 $(BIN)/pytest -m "faults or long" tests

chaos: ## SEED=n N=schedules: random faults, recorded and checked; records in tests/chaos/out/
	@tools/setup test
	@$(BIN)/python -m tests.chaos --seed $(SEED) --schedules $(N) --first $(FIRST) --duration $(DURATION)

soak: ## MINUTES=60 SEED=n: traffic, churn and faults, and whether anything grows; samples in tests/soak/out/
	@tools/setup test
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) --seed $(SEED)

fuzz: ## bad input at every door, at random and for longer; EFFORT=n times as many examples as in `make test`
	@tools/setup check
	@PROPERTY_EFFORT=$(EFFORT) $(BIN)/pytest tests/fuzz --timeout=3600

test-gre: ## the lab's data path, failover and egress addresses with GRE, in a guest with a kernel that has it
	@tools/setup test
	@PROXYPOOL_LONG=1 $(BIN)/pytest tests/vm

demo: ## a pool on this machine, its master powered off, the blackout measured; TUNNEL=gre: in a guest that has GRE
	@tools/setup $(if $(filter gre,$(TUNNEL)),test,demo)
ifeq ($(TUNNEL),gre)
	@$(BIN)/python -m proxypool.lab.guest --mem 2G -- $(BIN)/proxypool lab demo --tunnel gre
else
	@$(BIN)/proxypool lab demo $(if $(TUNNEL),--tunnel $(TUNNEL))
endif

bench: ## measure; NAME=… one of them; tables here, figures in bench/out/
	@tools/setup test
	@$(BIN)/python -m bench $(NAME)

docs: ## the documentation as a site, in site/; a broken link, or a page that is not in the navigation, is an error
	@tools/setup check
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

deb: ## a Debian package of this tree, in dist/
	@tools/setup check
	@$(BIN)/python tools/build_deb.py

fmt: ## format and fix what can be fixed
	@tools/setup check
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: ## write requirements/ again from pyproject.toml (needs uv)
	@tools/lock

audit: ## known vulnerabilities of the locked packages; needs a way to pypi.org or another database: tools/audit
	@tools/audit

sbom: ## the bill of materials (CycloneDX) of what is installed with proxypool, in dist/
	@tools/setup check
	@$(BIN)/python tools/sbom.py dist

clean: ## remove what the targets made in this directory
	rm -rf .venv .venv-audit site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist bench/out tests/chaos/out tests/soak/out
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
