# kagemusha: `make help` says what there is. Everything runs from a clone, as root, on Debian 12.

PYTHON := .venv/bin/python
ARGS ?=
TEST_SECONDS_MAX ?= 600
NODES_SECONDS_MAX ?= 1800

.DEFAULT_GOAL := help
.PHONY: help setup packages demo demo-pair demo-structures test test-nodes lint lint-deploy dist ansible test-deploy verify monitoring fuzz-api lock restarts partitions agent-kills false-alarms chaos chaos-selftest bench-codec bench-memory bench-pause bench-takeover bench-activation bench-fence bench-raft bench-structures

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1   \2/p' $(MAKEFILE_LIST)

# Compiled as an installation is: where Python keeps nothing of what it compiles, each agent would do it at its start.
setup: packages .venv/.ready ## install what is missing: Debian packages and the locked Python packages (quick when done)
	@$(PYTHON) -m compileall -q agent cluster kagemusha transport

packages:
	@deploy/setup packages

.venv/.ready: requirements.lock pyproject.toml deploy/setup | packages
	@deploy/setup python

demo: setup ## three nodes: redis-server is killed, and goes on elsewhere; ARGS=--json for one JSON object as the last line
	@$(PYTHON) -m kagemusha demo $(ARGS)

demo-pair: setup ## the same with two nodes and a small controller of the demo's own
	@$(PYTHON) -m kagemusha demo --pair $(ARGS)

demo-structures: setup ## three nodes: named data of a Python and a C program goes on in warm instances; ARGS=--json as above
	@$(PYTHON) -m kagemusha demo --structures $(ARGS)

test: setup ## every test but the long ones; needs root
	@timeout --foreground --kill-after=10 $(TEST_SECONDS_MAX) $(PYTHON) -m tests $(ARGS)

test-nodes: setup ## the tests that take whole clusters through failures: a quarter of an hour
	@timeout --foreground --kill-after=10 $(NODES_SECONDS_MAX) $(PYTHON) -m pytest -m nodes $(ARGS)

lint: setup ## ruff (rules and format), mypy --strict
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check --quiet .
	@$(PYTHON) -m mypy

verify: setup ## every byte of mirrors against their stopped originals, 1,000 checkpoints of each program
	@$(PYTHON) -m tests.verify $(ARGS)

restarts: setup ## daemons and agents are restarted under load, ten of each; the last line is one JSON object
	@$(PYTHON) -m tests.restarts $(ARGS)

partitions: setup ## divide the network of a cluster, a client on each side: nobody serves beside another; ARGS="--runs 50 --seed 7"
	@$(PYTHON) -m tests.partitions $(ARGS)

agent-kills: setup ## kill agents at random points of their work: the program stays whole; ARGS="--runs 100 --seed 7"
	@$(PYTHON) -m tests.agent_kills $(ARGS)

false-alarms: setup ## saturate every CPU: nothing is fenced, nobody is elected; ARGS="--minutes 60"
	@$(PYTHON) -m tests.false_alarms $(ARGS)

chaos: setup ## harm a cluster by a seed and judge what was seen: docs/chaos.md; ARGS="--seconds 60 --seed 7 --json"
	@$(PYTHON) -m tests.chaos $(ARGS)

chaos-selftest: setup ## a short run, and a violation for each checker planted in what was seen of it
	@$(PYTHON) -m tests.chaos.selftest $(ARGS)

monitoring: setup ansible ## alert rules by promtool; a real Prometheus asks three real nodes: each panel of the dashboard has data
	@deploy/setup prometheus
	@$(PYTHON) -m tests.monitoring $(ARGS)

dist: setup ## all that a node installs: wheels, their lock, an archive, in dist/; ARGS="--python /usr/bin/python3.12"
	@$(PYTHON) deploy/make_dist.py $(ARGS)

ansible: setup ## ansible-playbook and ansible-lint, by hash, in .venv/ansible: docs/deploy.md
	@deploy/setup ansible

lint-deploy: ansible ## the playbooks by ansible-lint's production profile, the units by systemd-analyze
	@$(PYTHON) -m tests.deploy.lint

test-deploy: ansible ## the playbooks on three machines that boot: half an hour; ARGS="--only converge,change_nothing,remove"
	@deploy/setup trial
	@$(PYTHON) -m tests.deploy $(ARGS)

fuzz-api: setup ## requests that nobody thought of, to three real nodes, with tokens of all scopes and none; ARGS="--examples 100"
	@$(PYTHON) -m tests.cluster.admin.fuzz $(ARGS)

bench-codec: setup ## size and speed of what travels, zstd and lz4
	@$(PYTHON) -m tests.bench.codec $(ARGS)

bench-memory: setup ## scan, copy and apply of memory
	@$(PYTHON) -m tests.bench.memory $(ARGS)

bench-pause: setup ## how long checkpoints stop a redis-server under load
	@$(PYTHON) -m tests.bench.pause $(ARGS)

bench-fence: setup ## what it takes to cut a program off, and how long clients then wait, by driver
	@$(PYTHON) -m tests.bench.fence $(ARGS)

bench-raft: setup ## agreement of three members: latency, throughput, elections
	@$(PYTHON) -m tests.bench.raft $(ARGS)

bench-structures: setup ## what mirrored structures cost, a dict of a million entries and a C table, beside a Redis pair
	@$(PYTHON) -m tests.bench.structures $(ARGS)

bench-takeover: setup ## what clients see of every kind of takeover, beside Redis Sentinel, keepalived alone, a restart
	@$(PYTHON) -m tests.bench.takeover $(ARGS)

bench-activation: setup ## how long a mirror takes to become the program, at 100 MiB and at 1 GiB
	@$(PYTHON) -m tests.bench.activation $(ARGS)

lock: setup ## write requirements.lock anew from pyproject.toml
	@deploy/setup lock
