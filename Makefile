# The same targets for a person and for CI.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= config/local.toml
WORKERS ?= 1

# Where this is set, as in many containers, each program that a test starts compiles all of Shardgate again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run run-moto test test-azure test-clients mutants soak drill breaks doors fuzz check bench bench-wan clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

run: $(VENV)/.installed ## Start the proxy with CONFIG, on 127.0.0.1:PORT if given; WORKERS=N for several processes
	@exec $(BIN)/shardgate serve --config $(CONFIG) $(if $(PORT),--listen 127.0.0.1:$(PORT)) --workers $(WORKERS)

run-moto: $(VENV)/.installed-test ## Start six moto servers as S3 providers, and the proxy before them
	@exec $(BIN)/python -m tests.moto_providers $(if $(PORT),--listen 127.0.0.1:$(PORT)) --workers $(WORKERS)

test: check ## Install what is needed, then check and run every test
	$(BIN)/python -m pytest -n 2

test-azure: $(VENV)/.installed-test ## The stores' contract on Azurite, which npm installs
	@command -v npm >/dev/null || { echo "npm is not installed: the Azure contract is skipped"; exit 0; }; \
	npm install --silent --prefix $(VENV)/node azurite && $(BIN)/python -m pytest -q tests/contract/test_stores.py -k azure

test-clients: $(VENV)/.installed-test ## Clients that others wrote, in Python, JavaScript, Go and Java, NAMES or all (skipped where they cannot be had)
	$(BIN)/python -m tests.clients $(NAMES)

mutants: $(VENV)/.installed-test ## Put known mistakes into copies of the tree: the tests must notice each
	$(BIN)/python -m tools.mutants

soak: $(VENV)/.installed-bench ## MINUTES (10) of clients while workers are killed, a store misbehaves, others are drained, and the manifest is lost
	$(BIN)/python -m tests.soak $(if $(MINUTES),--minutes $(MINUTES))

fuzz: $(VENV)/.installed-fuzz ## Send clients' nonsense to every parser and to a server, for MINUTES (10): no failure, no hang, no growth
	$(BIN)/python -m tests.fuzz $(if $(MINUTES),--minutes $(MINUTES)) $(if $(TARGET),--target $(TARGET))

drill: $(VENV)/.installed-test ## Delete the manifest behind OBJECTS objects (100,000), and one store: recover, and compare every object
	@$(BIN)/python -m tests.drill $(if $(OBJECTS),--objects $(OBJECTS))

breaks: $(VENV)/.installed-test ## Break what keeps data safe, one thing after the other: the simulation must find each, and nothing in EXAMPLES (50) of the whole; it may take hours
	SHARDGATE_BREAKS=1 $(BIN)/python -m pytest -q -n 2 tests/fault/machine/test_breaks.py
	SHARDGATE_EXAMPLES=$(or $(EXAMPLES),50) $(BIN)/python -m pytest -q tests/fault/machine/test_machine.py

doors: $(VENV)/.installed-test ## The same bytes by both doors of a server, EXAMPLES (1,000) of each kind; then the black-box tests by aiohttp's alone
	SHARDGATE_EXAMPLES=$(or $(EXAMPLES),1000) $(BIN)/python -m pytest -q --timeout 7200 tests/contract/test_doors.py
	SHARDGATE_DOOR=aiohttp $(BIN)/python -m pytest -q tests/blackbox

check: $(VENV)/.installed-test ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-bench ## Measure beside the yardsticks; the raw results and a picture of them go to build/
	@mkdir -p build
	$(BIN)/python -m bench --json build/bench.json --picture build/bench.svg

bench-wan: $(VENV)/.installed-bench ## Measure over six distant buckets, healthy, slow, dead and hanging; QUICK=1 for a minute
	@mkdir -p build
	$(BIN)/python -m bench.wan --json build/bench-wan.json $(if $(QUICK),--quick)

clean: ## Remove what was installed (never data)
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .fuzz .import_linter_cache

$(BIN)/python:
	@python="$(or $(PYTHON),$$(sh tools/fastest_python.sh))"; \
	echo "Making a virtual environment in $(VENV) with $$python ..."; \
	"$$python" -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing Shardgate and its libraries into $(VENV), this once: it takes a minute or two ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "Installing Shardgate and the tools of its tests into $(VENV), this once: it takes a few minutes ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-fuzz: $(VENV)/.installed-test
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]' || echo "There is no coverage-guided fuzzer for this platform: inputs are made without one."
	@touch $@

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	@echo "Installing Shardgate, the tools of its tests and the yardsticks into $(VENV), this once: it takes a few minutes ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,bench]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test
