# `make` alone lists what there is.
.PHONY: help demo test lint oracle bench lab-up lab-down deny

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## two real masters: back up, verify, destroy one, restore it
	tests/demo.sh

test: ## every test, the end-to-end ones against the lab included
	tests/prepare.sh
	cargo test --locked --all-targets

lint: ## formatting, clippy, shellcheck
	tests/prepare.sh shellcheck
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	tests/shellcheck.sh

oracle: ## 20 backups and restores under load, and one that must be torn
	tests/oracle.sh

bench: ## how long containers are frozen, ours against the by-hand procedure
	tests/bench-freeze.sh

lab-up: ## boot two masters to play with: east (5.1) and west (8.0)
	tests/lab/lab up east --fuel 5.1
	tests/lab/lab up west --fuel 8.0
	@echo "try: cargo run -- -i $$(tests/lab/lab inventory) check"

lab-down: ## remove the lab
	tests/lab/lab down

deny: ## licences and advisories of the dependencies (needs cargo-deny)
	cargo deny check
