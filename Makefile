# The entry points. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test system-test soak bench lint deps deps-demo build install deb

PREFIX ?= /usr
SYSCONFDIR ?= /etc
DESTDIR ?=
# Which build `make install` takes: release or debug.
PROFILE ?= release

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BUILT := $(TARGET_DIR)/$(PROFILE)
export HOLDFAST_DEPS_DIR ?= $(CURDIR)/target/deps
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/sbin:/sbin

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: deps-demo ## see it work: a backup, a disaster and a restore in a temporary directory
	tests/demo

test: ## install what the tests need and run all that need no root
	tests/deps/install test
	$(CARGO) build --locked --bins
	if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run --locked --no-fail-fast; \
	else \
	    $(CARGO) test --locked --no-fail-fast --lib --bins --tests; \
	fi
	$(CARGO) test --locked --doc --quiet

system-test: ## what needs root: tests as several users, and the installed service in a booted Debian
	@((EUID == 0)) || { echo "make system-test boots a container: run it as root" >&2; exit 1; }
	tests/deps/install system
	$(MAKE) --no-print-directory deb PROFILE=debug
	status=0; tests/system/as-root || status=$$?; tests/system/run || status=$$?; exit $$status

soak: ## the slow proofs in full: kill loops, thousands of random cases, simulated days
	tests/deps/install test
	export HOLDFAST_MYSQL=$${HOLDFAST_MYSQL:-$$(tests/deps/mysql)}; \
	status=0; HOLDFAST_SOAK=1 $(CARGO) test --locked --no-fail-fast --tests || status=$$?; \
	HOLDFAST_SOAK=1 $(CARGO) test --locked --no-fail-fast --tests -- --ignored soak_ || status=$$?; exit $$status

bench: ## measure the bars of the design on this machine
	tests/deps/install test
	tests/bench

lint: ## formatting, clippy, documentation, shell scripts, licences and sources of dependencies
	tests/deps/install lint
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
	tests/deps/shellcheck
	$(CARGO) deny --locked check bans licenses sources

deps: ## install what demo, tests, lint and system tests need
	tests/deps/install all

deps-demo:
	tests/deps/install demo

build: ## both programs, optimised
	$(CARGO) build --locked --release --bins

install: ## install what was built: DESTDIR, PREFIX=/usr, SYSCONFDIR=/etc, PROFILE=release
	@for program in holdfastd holdfast; do \
	    [[ -x "$(BUILT)/$$program" ]] || { echo "$(BUILT)/$$program is not there: run 'make build' first" >&2; exit 1; }; \
	done
	install -d "$(DESTDIR)$(SYSCONFDIR)/holdfast/conf.d"
	install -d -m 0700 "$(DESTDIR)$(SYSCONFDIR)/holdfast/secrets"
	install -D -m 0755 -t "$(DESTDIR)$(PREFIX)/bin" "$(BUILT)/holdfastd" "$(BUILT)/holdfast"
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/system" units/holdfastd.service units/holdfast.slice units/holdfast-recover@.service
	install -D -m 0755 -t "$(DESTDIR)$(PREFIX)/share/holdfast/greenboot" units/greenboot/guard units/greenboot/*.sh
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/holdfast/greenboot" units/greenboot/Containerfile
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/lib/systemd/catalog" units/holdfast.catalog
	install -D -m 0644 units/holdfast.sysusers "$(DESTDIR)$(PREFIX)/lib/sysusers.d/holdfast.conf"
	install -D -m 0644 units/holdfast.tmpfiles "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/holdfast.conf"
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/dbus-1/system.d" units/org.holdfast.Backup1.conf
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/dbus-1/system-services" units/org.holdfast.Backup1.service
	install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/polkit-1/actions" units/org.holdfast.backup1.policy
	install -D -m 0644 units/org.holdfast.backup1.rules "$(DESTDIR)$(PREFIX)/share/polkit-1/rules.d/60-org.holdfast.backup1.rules"
	$(if $(wildcard units/*.xml),install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/dbus-1/interfaces" units/*.xml)
	$(if $(wildcard config/modules/*.toml),install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/holdfast/modules" config/modules/*.toml)
	$(if $(wildcard config/*.toml config/*.json),install -D -m 0644 -t "$(DESTDIR)$(PREFIX)/share/holdfast" $(wildcard config/*.toml config/*.json))
	install -d "$(DESTDIR)$(PREFIX)/share/man" $(foreach d,bash-completion/completions zsh/site-functions fish/vendor_completions.d,"$(DESTDIR)$(PREFIX)/share/$(d)")
	"$(BUILT)/holdfast" man "$(DESTDIR)$(PREFIX)/share/man"
	"$(BUILT)/holdfast" completions bash >"$(DESTDIR)$(PREFIX)/share/bash-completion/completions/holdfast"
	"$(BUILT)/holdfast" completions zsh >"$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_holdfast"
	"$(BUILT)/holdfast" completions fish >"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/holdfast.fish"
	if [[ -z "$(DESTDIR)" && -d /run/systemd/system ]]; then \
	    systemd-sysusers holdfast.conf; systemd-tmpfiles --create holdfast.conf; \
	    journalctl --update-catalog; systemctl daemon-reload; \
	    busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig; \
	fi

deb: ## build a Debian package in target/debian (PROFILE=release or debug) and check it
	tests/deps/install deb
	$(CARGO) build --locked --bins $(if $(filter release,$(PROFILE)),--release)
	rm -rf target/package
	$(MAKE) --no-print-directory --silent install DESTDIR=target/package PREFIX=/usr SYSCONFDIR=/etc PROFILE=$(PROFILE)
	rm -f target/debian/holdfast_*.deb
	$(CARGO) deb --locked --no-build --strip $(if $(filter release,$(PROFILE)),--profile release,--profile dev --fast) --output target/debian/
	lintian --fail-on error target/debian/holdfast_*.deb
	@ls -l target/debian/holdfast_*.deb
