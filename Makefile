# `make test` and `make demo` set up everything they need on a machine that has Python 3.11 and make.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# The first of these that is 3.11 or newer.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PIP_INSTALL := $(PIP) install
# The lock files are installed as they stand: nothing is resolved, so a newer release on the index changes nothing.
# Wheels only: nothing is ever compiled here, so no compiler is needed.
PIP_LOCKED := $(PIP_INSTALL) --no-deps --require-hashes --only-binary :all:
# Another uv may order or comment the lock files differently.
UV_VERSION := 0.13.8

# Debian keeps the broker in sbin, which is not on an ordinary user's PATH.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin

# sh -c "$APT_INSTALL" sh PACKAGE...: installs as root, through sudo where it asks no password, or says what to run.
define APT_INSTALL
set -eu
command -v apt-get >/dev/null || { echo "Missing: $$*. Please install it with this system's package manager." >&2; exit 1; }
if [ "$$(id -u)" = 0 ]; then as_root=
elif sudo -n true 2>/dev/null; then as_root="sudo -n"
else
	echo "Missing: $$*. Please run this, then make again:" >&2
	echo "  sudo apt-get update && sudo apt-get install --no-install-recommends -y $$*" >&2
	exit 1
fi
echo "Installing $$* with apt-get"
$$as_root env DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes sh -euc '
	quiet="-qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
	# A foreign source that does not answer must not stop us while Debian itself does.
	apt-get $$quiet update || echo "apt-get update failed; going on with the lists at hand" >&2
	# Installing a package must not start its service: dpkg asks this file. One that stands already is left alone.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e "$$policy" ]; then
		trap "rm -f $$policy" EXIT
		trap "exit 1" HUP INT TERM
		printf "%s\n" "#!/bin/sh" "exit 101" >"$$policy"
		chmod 755 "$$policy"
	fi
	new_services=
	for package; do [ -e "/etc/init.d/$$package" ] || new_services="$$new_services $$package"; done
	apt-get $$quiet install --no-install-recommends -y "$$@" >/dev/null
	# Nor start at the next boot: nobody asked for a broker on port 1883. One that was there before stays as it is.
	for service in $$new_services; do [ ! -e "/etc/init.d/$$service" ] || update-rc.d "$$service" disable; done
' sh "$$@"
endef
export APT_INSTALL

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z.-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' Makefile

# Two steps, so that the demo does not wait for the developers' tools.
.PHONY: .venv
.venv: .venv/.dev ## set up .venv from the lock files

.venv/.demo: requirements-demo.lock requirements-build.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; name it with make PYTHON=..." >&2; exit 1; }
	@# Debian ships ensurepip, without which a virtual environment has no pip, in a package of its own.
	@"$(PYTHON)" -c 'import ensurepip' 2>/dev/null || sh -c "$$APT_INSTALL" sh "$(notdir $(PYTHON))-venv"
	@# Afresh, or what is in the lock files no longer would stay.
	@"$(PYTHON)" -m venv --clear .venv
	@echo "Installing the locked packages into .venv"
	@$(PIP_LOCKED) -r requirements-demo.lock -r requirements-build.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@$(PIP) check
	@touch $@

.venv/.dev: .venv/.demo requirements-dev.lock
	@echo "Installing the locked development tools into .venv"
	@$(PIP_LOCKED) -r requirements-dev.lock
	@$(PIP) check
	@touch $@

.PHONY: mosquitto
mosquitto: ## install the Mosquitto broker unless it is there
	@set --; command -v mosquitto >/dev/null || set -- mosquitto; \
	command -v mosquitto_pub >/dev/null || set -- "$$@" mosquitto-clients; \
	[ $$# = 0 ] || sh -c "$$APT_INSTALL" sh "$$@"

# A library that shows one process another time; without it the tests of wrong clocks are skipped.
.PHONY: faketime
faketime:
	@[ "$$(uname)" != Linux ] || ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || \
	  sh -c "$$APT_INSTALL" sh libfaketime

# Checks and runs the rules of deploy/prometheus; without it those tests are skipped. Its package is 19 MB, and the
# server in it is not started.
.PHONY: promtool
promtool: ## install promtool, and Prometheus with it, unless it is there
	@command -v promtool >/dev/null || sh -c "$$APT_INSTALL" sh prometheus || \
	  echo "promtool is missing, so the tests of the alert rules and the dashboard are skipped" >&2

# A browser; without it the tests of the page are skipped. Debian's only: other systems call it differently.
.PHONY: chromium
chromium:
	@! command -v dpkg >/dev/null || { command -v chromium && command -v chromedriver; } >/dev/null || \
	  sh -c "$$APT_INSTALL" sh chromium chromium-driver || echo "Without chromium the tests of the page are skipped" >&2

# For the device in C of examples/, which ingestd itself does not need; without it its test is skipped.
.PHONY: libmosquitto
libmosquitto:
	@! command -v dpkg >/dev/null || { command -v gcc && ls /usr/include/stdio.h /usr/include/mosquitto.h; } >/dev/null 2>&1 || \
	  sh -c "$$APT_INSTALL" sh gcc libc6-dev libmosquitto-dev || \
	  echo "Without libmosquitto-dev the test of the device in C is skipped" >&2

.PHONY: lint
lint: .venv/.dev ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: .venv/.dev ## format the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: test
test: .venv/.dev mosquitto faketime promtool chromium libmosquitto lint ## set up, lint and run all tests with coverage (PYTEST_ARGS=... adds options)
	$(BIN)/python -m pytest --numprocesses 3 --dist worksteal --cov --cov-report=term $(PYTEST_ARGS)

SECONDS ?= 60
.PHONY: chaos
chaos: .venv/.dev mosquitto ## break everything at random under load (SECONDS=600 SEED=7 RATE=1000 CHAOS_DAEMONS=3); nothing may be lost
	@$(BIN)/python -m tests.faults.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE)) $(if $(CHAOS_DAEMONS),--daemons $(CHAOS_DAEMONS))

.PHONY: demo
demo: .venv/.demo mosquitto ## set up and run the demo; it prints the address to open (ARGS=... adds options)
	@$(BIN)/ingestd demo $(ARGS)

.PHONY: bench
bench: .venv/.dev mosquitto ## measure throughput and latency on this machine (ARGS=... adds options)
	$(BIN)/python -m bench $(ARGS)

.PHONY: docs
docs: .venv/.dev ## write what docs/ takes from the code: settings, modules, the pictures of docs/energy.md
	$(BIN)/python docs/settings.py
	$(BIN)/python docs/components.py
	$(BIN)/python docs/energy/draw.py

# The dev lock is resolved first and constrains the others, so that a package has one version in all of them.
.PHONY: lock
lock: ## resolve the lock files anew; versions that still fit stay (UPGRADE=--upgrade lifts them)
	@set -eu; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	"$(PYTHON)" -m venv "$$dir"; \
	"$$dir/bin/pip" install --quiet --disable-pip-version-check uv==$(UV_VERSION); \
	compile() { "$$dir/bin/uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE) "$$@"; }; \
	compile pyproject.toml --extra demo --extra parquet --group dev -o requirements-dev.lock; \
	compile pyproject.toml -c requirements-dev.lock -o requirements.lock; \
	compile pyproject.toml --extra demo -c requirements-dev.lock -o requirements-demo.lock; \
	"$$dir/bin/python" -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
	  compile - -c requirements-dev.lock -o requirements-build.lock; \
	compile --group pyproject.toml:supply -c requirements-dev.lock -o requirements-supply.lock

# In a virtual environment of their own, which is removed again: so the developers' one does not grow.
define SUPPLY_TOOLS
set -eu; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
"$(PYTHON)" -m venv "$$dir"; \
export PIP_DISABLE_PIP_VERSION_CHECK=1; \
"$$dir/bin/python" -m pip --quiet install --no-deps --require-hashes --only-binary :all: -r requirements-supply.lock
endef

.PHONY: audit
audit: ## look the locked packages up among known vulnerabilities; status 3 where that cannot be done
	@$(SUPPLY_TOOLS); \
	"$$dir/bin/pip-audit" --disable-pip --require-hashes --progress-spinner off --format json \
	  $(addprefix -r ,$(wildcard requirements*.lock)) >"$$dir/report" 2>"$$dir/errors" || :; \
	"$$dir/bin/python" .ci/audit.py "$$dir/report" "$$dir/errors"

.PHONY: sbom
sbom: ## write what ingestd consists of (requirements.lock) to dist/ingestd.cdx.json, as CycloneDX
	@$(SUPPLY_TOOLS); mkdir -p dist; \
	version=$$(sed -n 's/^__version__ = "\(.*\)"$$/\1/p' ingestd/__init__.py); \
	sed "s/^dynamic = \[\"version\"\]$$/version = \"$$version\"/" pyproject.toml >"$$dir/pyproject.toml"; \
	"$$dir/bin/python" -W ignore -m cyclonedx_py requirements --pyproject "$$dir/pyproject.toml" --spec-version 1.6 \
	  --output-reproducible --output-file dist/ingestd.cdx.json requirements.lock; \
	echo "dist/ingestd.cdx.json"

.PHONY: build
build: .venv/.dev ## build the wheel and the source archive into dist/
	$(BIN)/python -m build --no-isolation

.PHONY: clean
clean: ## remove .venv and everything built, measured or cached
	rm -rf .venv dist bench/out tests-output .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
