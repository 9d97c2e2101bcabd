# `make` alone lists what there is.
.PHONY: release-check test-long cookbook documents help demo test lint oracle chaos fuzz bench bench-freeze bench-fleet bench-transfer bench-library bench-growth lab-up lab-down dist targets deny

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## two real masters: back up, verify, destroy one, restore it
	tests/demo.sh

test: ## every test but the long ones, the end-to-end ones against the lab included
	tests/prepare.sh
	# lrzip and Docker on the masters keep two cores busy: more at once only makes each one slower.
	RUST_TEST_THREADS=$(or $(THREADS),2) cargo test --locked --all-targets

test-long: ## the tests that every day is too short for: other releases both ways, a remote as home, a long line (three quarters of an hour)
	tests/prepare.sh
	RUST_TEST_THREADS=$(or $(THREADS),2) cargo test --locked --test it -- --ignored --skip every_command_of_the_documents_runs

lint: ## formatting, clippy, shellcheck
	tests/prepare.sh shellcheck
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	tests/shellcheck.sh

oracle: ## 20 backups and restores under load, and one that must be torn
	tests/oracle.sh

chaos: ## the whole kill matrix (hours; CELLS=20 for some of it, SEED=n for others)
	tests/prepare.sh
	TANKER_CHAOS=$(or $(CELLS),all) TANKER_CHAOS_SEED=$(or $(SEED),7) cargo test --locked --test it kill_matrix -- --nocapture

fuzz: ## the fuzzers for a while (SECONDS=600 for longer); needs cargo-fuzz, which it installs
	tests/fuzz.sh $(or $(SECONDS),60)

bench: bench-library bench-freeze bench-fleet bench-transfer bench-growth ## every benchmark; one table, target/bench.json and target/growth.json
	tests/bench-table.sh

bench-freeze: ## how long containers are frozen, ours against the by-hand procedure
	tests/bench-freeze.sh

bench-fleet: ## how long a look at 200 hosts takes, ours against Ansible
	tests/bench-fleet.sh

bench-transfer: ## archives over a long line, ours against scp and the by-hand procedure
	tests/bench-transfer.sh

bench-library: ## what the library costs, ours against sha256sum, age, cp; 10,000 backups listed
	tests/bench-library.sh

bench-growth: ## how a backup's cost grows with size, files, containers and masters
	tests/bench-growth.sh

documents: ## run every command of the documents against two lab masters (a quarter of an hour)
	tests/prepare.sh
	cargo test --locked --test it -- --ignored --nocapture every_command_of_the_documents_runs
	tests/cookbook.sh --check

cookbook: ## run every way to back up and restore, and write docs/cookbook.md
	tests/cookbook.sh

lab-up: ## boot two masters to play with: east (5.1) and west (8.0)
	tests/lab/lab up east --fuel 5.1
	tests/lab/lab up west --fuel 8.0
	@echo "try: cargo run -- -i $$(tests/lab/lab inventory) check"

lab-down: ## remove the lab
	tests/lab/lab down

dist: ## a static program and a .deb, tried in an empty root filesystem: target/dist
	tests/dist.sh

release-check: lint test test-long documents demo dist targets deny ## all of that, before a version is given away (hours)

targets: ## does it compile for musl, Windows and macOS
	tests/targets.sh

deny: ## licences and advisories of the dependencies (needs cargo-deny)
	cargo deny check
