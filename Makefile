# Every target makes its own .venv from the pinned lock; nothing but Python >= 3.11 and make is needed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
VENV ?= .venv
# Of each sidecar in the scenarios: `make scenarios WORKERS=2`.
WORKERS ?= 1
BIN := $(VENV)/bin

.PHONY: demo demo-lifecycle demo-policy test check format scenarios soak fuzz tls-report corpus bench clean

# make demo [ARGS=--keep]: with it the shop stays open, with customers and a dashboard, until Ctrl-C.
demo: $(VENV)/ready
	@$(BIN)/python examples/shop/demo.py $(ARGS)

# Two minutes: certificates of thirty seconds, renewed, rotated and revoked under load.
demo-lifecycle: $(VENV)/ready
	@$(BIN)/python examples/lifecycle/demo.py

# From no allow-list to one that is enforced: audit mode, learn, review, enforce.
demo-policy: $(VENV)/ready
	@$(BIN)/python examples/policy/demo.py

test: $(VENV)/ready
	@$(BIN)/pytest -q -n 3 -m "not long"

check: $(VENV)/ready
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/pytest -q -n 3 -m "not long"

format: $(VENV)/ready
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# All promises, and whatever else takes long.
scenarios: $(VENV)/ready
	@MESHPROXY_TEST_WORKERS=$(WORKERS) $(BIN)/pytest -v tests/scenarios
	@$(BIN)/pytest -v -m long tests --ignore tests/scenarios

# make soak [MINUTES=30]; or SECONDS=600, which is what it lasts when nothing is said. Ten thousand idle callers behind it.
soak: $(VENV)/ready
	@MESHPROXY_SOAK=$(or $(SECONDS),$(if $(MINUTES),$$(($(MINUTES) * 60)),600)) $(BIN)/pytest -v -s tests/scenarios -k soak
	@MESHPROXY_TEST_IDLE=10000 $(BIN)/pytest -v -s tests/scenarios -k idle_connections_cost

# make fuzz [TIME=300] [TARGETS="requests leaves"]: seconds for all of them together; atheris where it is installed
# (pip install .[fuzz]), else Hypothesis
fuzz: $(VENV)/ready
	@$(BIN)/python -m tests.fuzz --seconds $(or $(TIME),300) $(if $(FINDINGS),--findings "$(FINDINGS)") $(TARGETS)

# make corpus [CORPUS=path]: the shared corpus against meshproxy, HAProxy and nginx, as in the README; ten minutes.
corpus: $(VENV)/ready
	@$(BIN)/python -m bench.strictness $(if $(CORPUS),--corpus "$(CORPUS)")

# What sslscan and testssl.sh find at an inbound listener and at the CA's, kept in bench/results/tls; five minutes.
tls-report: $(VENV)/ready
	@$(BIN)/python -m bench.tls_report

# make bench [ONLY=tcp-keepalive,http-bulk] [PEERS=haproxy,caddy] [GHOSTUNNEL=path] [ROUNDS=7] [SECONDS=3] [HELD=8000]
#            [RATE=2000] [JSON=path] [ARGS=...]; ARGS=--help tells the rest
bench: $(VENV)/ready
	@$(BIN)/python -m bench $(if $(ONLY),--only "$(ONLY)") $(if $(PEERS),--peers "$(PEERS)") \
		$(if $(GHOSTUNNEL),--ghostunnel "$(GHOSTUNNEL)") $(if $(ROUNDS),--rounds "$(ROUNDS)") \
		$(if $(SECONDS),--seconds "$(SECONDS)") $(if $(HELD),--held "$(HELD)") $(if $(RATE),--rate "$(RATE)") \
		$(if $(JSON),--json "$(JSON)") $(ARGS)

$(VENV)/ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "meshproxy needs Python 3.11 or newer; none found. Name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
