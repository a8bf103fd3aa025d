# Everything here needs Python 3.11+, make and Java 17+; only up, down and test-compose need Docker. Bare `make` lists the commands.
PY := .venv/bin/python
COMPOSE ?= $(shell command -v docker-compose || echo docker compose)
LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

# Only values typed after make count; a PORT in the environment is meant for another program.
PORT := 9092
MINUTES := 1
SEED :=

# Variables that no recipe reads are refused instead of silently ignored. Keys of .env reach the programs through the
# environment.
TYPED := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
WITH_ARGS := demo dashboard broker doctor test test-unit test-browser test-compose chaos bench-quick long-run lock
READ := COMPOSE PYTHON JAVA_HOME CLIENT_TICKETS_% COMPOSE_% SSL_CERT_FILE HTTPS_PROXY https_proxy HTTP_PROXY http_proxy \
	BATCH_% COMPACT_% CONSUMER_% DASHBOARD_% DEDUPE KAFKA_% LOG_% METRICS_% OUTPUT_% PROCESSOR_% PRODUCER_% REDPANDA_% \
	ROUTING_% SPARK_% TOPIC_% \
	$(if $(filter broker,$(MAKECMDGOALS)),PORT) $(if $(filter chaos,$(MAKECMDGOALS)),MINUTES SEED) \
	$(if $(filter $(WITH_ARGS),$(MAKECMDGOALS)),ARGS)
UNREAD := $(filter-out $(READ),$(TYPED))
ifneq ($(UNREAD),)
$(error make $(MAKECMDGOALS) does not read $(UNREAD). Flags go into ARGS, such as: make demo ARGS="--count 500". \
make broker takes PORT=9095 too. An environment variable goes before the word make)
endif

# These would change our Python and pip if another program has set them.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONSAFEPATH PIP_PREFIX PIP_ROOT PIP_TARGET PIP_USER

.PHONY: help setup setup-sources demo dashboard broker doctor test test-unit test-browser test-compose chaos check audit bench \
	bench-quick long-run schema lock up down

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## everything the others need: .venv and jars
	@bash scripts/setup

setup-sources: ## setup, and what tickets from a database or an API need; the tests need it too
	@bash scripts/setup producer/sources

demo: setup ## the whole pipeline without Docker: broker, 2,000 tickets, one batch, the results
	@$(PY) -m embedded.demo $(ARGS)

broker: setup ## a Kafka broker on localhost:9092 in the foreground, data in data/broker; PORT=9095 takes another port
	@$(PY) -m embedded.broker --port $(PORT) --data-dir data/broker $(ARGS)

dashboard: ## the output on a page, http://localhost:8501; ARGS="--port 8600 --output-path D"
	@bash scripts/setup dashboard
	@$(PY) -m dashboard.serve $(ARGS)

doctor: ## what would stop the pipeline, and how to mend it; changes nothing; ARGS="--broker H:P --output-path D"
	@exec $$(command -v $(PY) || echo python3) -B -m doctor $(ARGS)

test: setup-sources ## all tests that need no Docker and no browser; ARGS="-k pacing" goes to pytest
	@$(PY) -m pytest -m "not compose and not browser" $(ARGS)

test-unit: setup-sources ## the tests without broker, JVM and the model of the disk, in seconds
	@$(PY) -m pytest -n auto -m "not model" tests/unit $(ARGS)

test-browser: ## the dashboard in Debian's Chromium, which is installed where it is missing (as root)
	@bash scripts/setup tests/browser
	@tests/browser/install_tools.sh
	@$(PY) -m pytest -m browser tests/browser $(ARGS)

test-compose: setup-sources ## docker-compose.yml for real; COMPOSE_REAL_REDPANDA=1 on Redpanda itself, else on a stand-in
	@tests/compose/install_tools.sh
	@$(PY) -m pytest -m compose tests/compose $(ARGS)

chaos: setup ## kill -9 of producer, processor and broker at random moments; MINUTES=30 SEED=7 ARGS="--output-format json"
	@$(PY) -m tests.support.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

check: setup-sources ## lint, format and types
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

audit: setup ## known vulnerabilities of all that is locked; needs the network, and osv-scanner for the jars
	@$(PY) -m audit

bench: setup ## compare producer and processor with what people would write, half an hour: docs/performance.md
	@$(PY) -m benchmarks.processor >benchmarks/results/processor.new
	@$(PY) -m benchmarks.producer --idle --rates 1 10 1000 >benchmarks/results/producer.new
	@for name in processor producer; do mv benchmarks/results/$$name.new benchmarks/results/$$name.json; done
	@$(PY) -m benchmarks.report

bench-quick: setup ## fails if the processor is far slower than before, compared with the same peers; 3 minutes
	@$(PY) -m benchmarks.processor --quick $(ARGS)

long-run: setup ## a service for half an hour, to see whether anything grows: docs/performance.md
	@$(PY) -m benchmarks.long_run $(ARGS) >benchmarks/results/long_run.new
	@mv benchmarks/results/long_run.new benchmarks/results/long_run.json
	@$(PY) -m benchmarks.report

schema: setup ## write contract/ticket.schema.json, which follows from contract/ticket.py
	@$(PY) -m contract.schema >contract/ticket.schema.new && mv contract/ticket.schema.new contract/ticket.schema.json

lock: setup ## make the locks from requirements*.txt; ARGS=--upgrade takes newer indirect packages
	@$(LOCK) $(ARGS) -o requirements-dev.lock requirements-dev.txt
	@for name in requirements-build requirements-audit producer/requirements producer/sources/requirements \
		processor/requirements dashboard/requirements tests/browser/requirements; do \
		$(LOCK) $(ARGS) -c requirements-dev.lock -o $$name.lock $$name.txt || exit; done

up: ## the pipeline in containers, in the background
	@$(COMPOSE) up --build -d

down: ## stop the containers and keep the data
	@$(COMPOSE) down
