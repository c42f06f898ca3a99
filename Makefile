# `make` prints the targets.
#
# Everything but install and uninstall happens in a virtual environment, .venv: PYTHON, and a C compiler where PyPI has no
# wheel of posix_ipc, are all that is needed. Where there is no network, PIP_FLAGS="--no-index --find-links DIRECTORY"
# takes packages from a directory that `pip download` has filled.

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
PREFIX = /usr/local
DESTDIR =
ARGS =
PIP_FLAGS =
SOAK_SECONDS = 600
CUTS = 100
CLIENTS = 1000
PYTHONS = 3.11 3.12 3.13
RUNS = $(VENV)/runs
DEMONSTRATES = $(VENV)/demonstrates
INSTALLED = $(VENV)/installed
BUILDS = $(VENV)/build/installed

PRIVATE = $(PREFIX)/lib/forkbroker
UNITS = $(PREFIX)/lib/systemd/system

.PHONY: help run demo test test-pythons lint bench bench-others soak cuts reloads packages mutants dist deb install install-linux uninstall clean

help:
	@echo "make run           a broker in the foreground; ARGS has its options"
	@echo "make demo          the kilt shop of docs/kiltshop.md, until Ctrl-C"
	@echo "make test          linters, types, all tests"
	@echo "make test-pythons  the tests of the rules under each of PYTHONS=\"$(PYTHONS)\" that is here"
	@echo "make lint          linters and types"
	@echo "make bench         the table of docs/benchmarks.md"
	@echo "make bench-others  forkbroker beside NATS, Redis and others, as far as they are installed"
	@echo "make soak          kills under load, for SOAK_SECONDS=$(SOAK_SECONDS)"
	@echo "make cuts          power failures under load, CUTS=$(CUTS) of them (as root)"
	@echo "make reloads       reloads under the load of CLIENTS=$(CLIENTS) clients of all kinds"
	@echo "make packages      tests of each way to install, on a fresh Debian with systemd (as root)"
	@echo "make mutants       does a test notice broken code?"
	@echo "make dist          source archive and wheel, in dist"
	@echo "make deb           a package for Debian and Ubuntu, in dist"
	@echo "make install       the broker as a service, below PREFIX=$(PREFIX) (as root); DESTDIR for packages"
	@echo "make uninstall     remove what install has installed"
	@echo "make clean         remove what the others have made here"

run: $(RUNS)
	$(BIN)/stomp-broker $(ARGS)

demo: $(DEMONSTRATES)
	@$(BIN)/python examples/kiltshop/demo.py

test: lint
	@# Tests of processes wait more than they compute: one worker more than there are processors.
	$(BIN)/python -m pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist worksteal $(ARGS)

test-pythons: $(INSTALLED)
	$(BIN)/python tests/pythons.py $(PYTHONS) --pip="$(PIP_FLAGS)" \
	    --pytest="-n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist worksteal $(ARGS)"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports setup.cfg
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning man/*.[1578]; \
	elif command -v groff >/dev/null; then test -z "$$(groff -ww -mdoc -Tutf8 man/*.[1578] 2>&1 >/dev/null)"; \
	else echo "man pages not checked: install mandoc or groff"; fi
	@sh -n etc/init.d/stomp-broker && sh -n etc/rc.d/stomp_broker

bench: $(INSTALLED)
	$(BIN)/python benchmarks/bench.py $(ARGS)

bench-others: $(INSTALLED)
	$(BIN)/python benchmarks/compare.py $(ARGS)

soak: $(INSTALLED)
	$(BIN)/python tests/faults/soak.py --seconds $(SOAK_SECONDS) $(ARGS)

cuts: $(INSTALLED)
	$(BIN)/python tests/faults/power.py --cuts $(CUTS) --seconds 3600 $(ARGS)

reloads: $(INSTALLED)
	$(BIN)/python tests/faults/reloads.py --clients $(CLIENTS) $(ARGS)

packages: $(INSTALLED)
	$(BIN)/python -m pytest --durations=10 tests/services/packages.py $(ARGS)

mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py $(ARGS)

$(RUNS): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --upgrade pip
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --editable ".[web]"
	touch $(RUNS)

$(DEMONSTRATES): $(RUNS)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --editable ".[cron]" "stomp.py>=8.1"
	touch $(DEMONSTRATES)

$(INSTALLED): $(RUNS)
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) --editable ".[test,lint]"
	touch $(INSTALLED)

# The archive has each file that git knows, and can make itself again. Nothing is made beside the sources, and the tools
# have an environment of their own.
dist: $(BUILDS)
	copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && \
	if [ -e .git ]; then git ls-files; else find . -type f ! -path './.venv/*' ! -path './dist/*' ! -name '*.pyc'; fi | \
	    tar -cf - -T - | tar -xf - -C "$$copy" && \
	printf 'global-include *\nglobal-exclude *.py[co]\nprune .venv\nprune dist\n' > "$$copy/MANIFEST.in" && \
	$(VENV)/build/bin/python -m build --no-isolation --outdir dist "$$copy" >/dev/null && ls dist/*.tar.gz dist/*.whl

# posix_ipc, which Debian has not, is a second source archive of the package. The tools are those of the system.
deb: dist
	rm -rf dist/deb dist/*.deb && mkdir -p dist/deb/fetched dist/deb/forkbroker
	grep -A1000 '^posix-ipc==' etc/requirements.lock | sed '2,$${/^[a-z]/,$$d;}' > dist/deb/posix-ipc.lock
	$(VENV)/build/bin/python -m pip download --quiet --disable-pip-version-check $(PIP_FLAGS) --no-deps --no-binary posix-ipc \
	    --require-hashes --requirement dist/deb/posix-ipc.lock --dest dist/deb/fetched
	version=$$(sed -n '1s/.*(\(.*\)-[^-]*).*/\1/p' debian/changelog) && cd dist/deb && \
	cp "../forkbroker-$$version.tar.gz" "forkbroker_$$version.orig.tar.gz" && \
	cp fetched/posix_ipc-*.tar.gz "forkbroker_$$version.orig-posix-ipc.tar.gz" && \
	tar -xf "forkbroker_$$version.orig.tar.gz" --strip-components=1 -C forkbroker && mkdir forkbroker/posix-ipc && \
	tar -xf "forkbroker_$$version.orig-posix-ipc.tar.gz" --strip-components=1 -C forkbroker/posix-ipc && cd forkbroker && \
	PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage --no-sign
	cp dist/deb/*.deb dist/
	ls dist/*.deb

$(BUILDS): pyproject.toml
	$(PYTHON) -m venv $(VENV)/build
	$(VENV)/build/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) build "setuptools>=77"
	touch $(BUILDS)

# The program has a virtual environment of its own, which has nothing to do with the packages of the system, and is
# built from a copy of the source: nothing here changes hands. Its scripts name their interpreter, without DESTDIR.
install:
	rm -rf "$(DESTDIR)$(PRIVATE)"
	$(PYTHON) -m venv "$(DESTDIR)$(PRIVATE)"
	"$(DESTDIR)$(PRIVATE)/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check $(PIP_FLAGS) \
	    --require-hashes --requirement etc/requirements.lock
	copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && \
	cp -R setup.cfg pyproject.toml README.md LICENSE bin etc forkbroker man "$$copy" && \
	"$(DESTDIR)$(PRIVATE)/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check $(PIP_FLAGS) \
	    --no-deps "$$copy"
	"$(DESTDIR)$(PRIVATE)/bin/python" -m pip uninstall --quiet --yes setuptools pip
	"$(DESTDIR)$(PRIVATE)/bin/python" -m compileall -q -s "$(DESTDIR)" "$(DESTDIR)$(PRIVATE)/lib"
	install -d "$(DESTDIR)$(PREFIX)/bin"
	for script in stomp-broker stomp-brokerctl; do \
	    sed -i.orig '1s|^#!$(DESTDIR)|#!|' "$(DESTDIR)$(PRIVATE)/bin/$$script" && \
	    rm "$(DESTDIR)$(PRIVATE)/bin/$$script.orig" && \
	    ln -sf "../lib/forkbroker/bin/$$script" "$(DESTDIR)$(PREFIX)/bin/$$script" || exit 1; \
	done
	for page in man/*; do \
	    section="$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}" && install -d "$$section" && \
	    install -m 644 "$$page" "$$section/" || exit 1; \
	done
	for shell in bash:bash-completion/completions/stomp-brokerctl zsh:zsh/site-functions/_stomp-brokerctl \
	    fish:fish/vendor_completions.d/stomp-brokerctl.fish; do \
	    file="$(DESTDIR)$(PREFIX)/share/$${shell#*:}" && install -d "$${file%/*}" && \
	    "$(DESTDIR)$(PRIVATE)/bin/python" -I -m forkbroker.ctl.completion "$${shell%%:*}" > "$$file" || exit 1; \
	done
	install -d "$(DESTDIR)$(PREFIX)/share/doc/forkbroker/examples"
	install -m 644 README.md CHANGELOG.md docs/*.md "$(DESTDIR)$(PREFIX)/share/doc/forkbroker/"
	install -m 644 etc/forkbroker.toml etc/logrotate.d/stomp-broker etc/prometheus/forkbroker.yml \
	    etc/grafana/forkbroker.json etc/nginx/forkbroker.conf etc/caddy/Caddyfile examples/page.html \
	    "$(DESTDIR)$(PREFIX)/share/doc/forkbroker/examples/"
	if [ "$$(uname)" = FreeBSD ]; then \
	    install -d "$(DESTDIR)$(PREFIX)/etc/rc.d" && \
	    install -m 755 etc/rc.d/stomp_broker "$(DESTDIR)$(PREFIX)/etc/rc.d/"; \
	else \
	    $(MAKE) --no-print-directory install-linux; \
	fi

install-linux:
	install -d "$(DESTDIR)/etc/init.d" "$(DESTDIR)$(UNITS)" "$(DESTDIR)$(PREFIX)/lib/sysusers.d" \
	    "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d"
	sed 's|/usr/bin/|$(PREFIX)/bin/|' etc/init.d/stomp-broker > "$(DESTDIR)/etc/init.d/stomp-broker"
	chmod 755 "$(DESTDIR)/etc/init.d/stomp-broker"
	sed 's|/usr/bin/|$(PREFIX)/bin/|' etc/systemd/stomp-broker.service > "$(DESTDIR)$(UNITS)/stomp-broker.service"
	install -m 644 etc/systemd/stomp-broker.socket "$(DESTDIR)$(UNITS)/"
	install -m 644 etc/sysusers.d/forkbroker.conf "$(DESTDIR)$(PREFIX)/lib/sysusers.d/"
	install -m 644 etc/tmpfiles.d/forkbroker.conf "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/"
	# systemd 253 and newer can wait for the end of a reload
	version=$$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p'); \
	if [ "$${version:-0}" -ge 253 ]; then \
	    install -d "$(DESTDIR)$(UNITS)/stomp-broker.service.d" && \
	    install -m 644 etc/systemd/notify-reload.conf "$(DESTDIR)$(UNITS)/stomp-broker.service.d/"; \
	fi
	# packages do this themselves when they are installed
	if [ -z "$(DESTDIR)" ] && command -v systemd-sysusers >/dev/null; then \
	    systemd-sysusers "$(PREFIX)/lib/sysusers.d/forkbroker.conf"; \
	    systemd-tmpfiles --create "$(PREFIX)/lib/tmpfiles.d/forkbroker.conf"; \
	    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi; \
	fi

# Configuration, database, logs and the user stay.
uninstall:
	if [ -z "$(DESTDIR)" ] && [ -d /run/systemd/system ]; then \
	    systemctl disable --now stomp-broker.service stomp-broker.socket || :; \
	fi
	rm -rf "$(DESTDIR)$(PRIVATE)" "$(DESTDIR)$(PREFIX)/share/doc/forkbroker" "$(DESTDIR)$(UNITS)/stomp-broker.service.d"
	rm -f "$(DESTDIR)$(PREFIX)/bin/stomp-broker" "$(DESTDIR)$(PREFIX)/bin/stomp-brokerctl" \
	    "$(DESTDIR)$(UNITS)/stomp-broker.service" "$(DESTDIR)$(UNITS)/stomp-broker.socket" \
	    "$(DESTDIR)$(PREFIX)/lib/sysusers.d/forkbroker.conf" "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/forkbroker.conf" \
	    "$(DESTDIR)/etc/init.d/stomp-broker" "$(DESTDIR)$(PREFIX)/etc/rc.d/stomp_broker"
	rm -f "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/stomp-brokerctl" \
	    "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_stomp-brokerctl" \
	    "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/stomp-brokerctl.fish"
	for page in man/*; do rm -f "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; done
	# links of runlevels to the script, which `systemctl enable` makes as well
	if [ -z "$(DESTDIR)" ]; then \
	    if command -v update-rc.d >/dev/null; then update-rc.d stomp-broker remove; fi; \
	    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi; \
	fi

clean:
	rm -rf $(VENV) benchmarks/build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
