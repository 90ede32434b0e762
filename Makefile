# `make help` lists the targets. Everything a target needs beyond cargo, cc and apt it fetches itself.
.DEFAULT_GOAL := help
.PHONY: help run test checks lint doc generated-check chaos bench fmt clean

CARGO ?= cargo

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## build and start GoTel on 127.0.0.1:8080 with an embedded database in data/
	@$(CARGO) run --quiet --locked -- serve $(ARGS)

test: ## run every check; installs, starts and stops the databases, the clusters, the browser and the mail server
	@tests/setup/with-databases.sh --all $(MAKE) --no-print-directory checks

# Real processes under faults, and those in clusters, mostly wait, for leases, limits and deadlines: many at once.
WAITING = ha:: faults:: peers:: operator:: chart::

# What `make test` runs once everything is up. Cheapest first. The pods of the chart run the program as it is released, but
# for the optimisation across crates, which takes minutes again after each change (profile.bench).
checks: export GOTEL_TEST_RELEASE = $(or $(CARGO_TARGET_DIR),target)/release/gotel
checks: lint doc generated-check
	$(CARGO) test --locked --lib --bins
	$(CARGO) build --locked --profile bench --bin gotel
	$(CARGO) test --locked --doc
	$(CARGO) test --locked --test it -- $(WAITING:%=--skip %)
	$(CARGO) test --locked --test it -- $(WAITING) --test-threads 8

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --quiet --locked --all-targets -- -D warnings
	@# One TLS provider: neither of these may come in by a dependency.
	@! $(CARGO) tree --locked --all-features -i ring 2>/dev/null | grep .
	@! $(CARGO) tree --locked --all-features -i openssl-sys 2>/dev/null | grep .

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --quiet --locked --no-deps --document-private-items

# Committed files that a command writes: FILE=COMMAND, one a line; a difference is a failure.
define GENERATED
openapi.json=cargo run --quiet --locked -- openapi
crds/reservations.yaml=cargo run --quiet --locked -- crd
charts/gotel/files/reservations.yaml=cat crds/reservations.yaml
charts/gotel/README.md=awk -f charts/gotel/readme.awk charts/gotel/README.head.md charts/gotel/values.yaml
endef
export GENERATED

generated-check: ## compare the committed generated files with what their commands write now
	@printf '%s\n' "$$GENERATED" | tests/setup/generated-check.sh

chaos: ## ten minutes of anything to three replicas and their database; GOTEL_CHAOS_S, GOTEL_CHAOS_SEED
	@GOTEL_CHAOS_S=$${GOTEL_CHAOS_S:-600} tests/setup/with-databases.sh \
		$(CARGO) test --locked --test it -- ha::chaos --nocapture

bench: ## measure, and print the ratios (docs/benchmarks.md explains them)
	@tests/setup/with-databases.sh --clusters $(CARGO) bench --locked --bench checkin

fmt: ## format the code
	$(CARGO) fmt

clean: ## remove what was built; the databases' downloads stay in ~/.cache/gotel-test
	$(CARGO) clean
