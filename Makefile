# make run    a broker in the foreground            make test   lint, types, all tests
# make bench  the table of docs/benchmarks.md       make soak   kills under load, for SOAK_SECONDS=600
# make mutants  does a test notice broken code?     make cuts   power cuts under load, CUTS=100 of them (as root)
# make install DESTDIR=... PREFIX=/usr/local
#
# Everything but install happens in a virtual environment of its own: PYTHON and a C compiler are all that is needed.

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
PREFIX = /usr/local
DESTDIR =
ARGS =
SOAK_SECONDS = 600
CUTS = 100
INSTALLED = $(VENV)/installed

.PHONY: run test lint bench soak cuts mutants install clean

run: $(INSTALLED)
	$(BIN)/stomp-broker $(ARGS)

test: lint
	@# Tests of processes wait more than they compute: one worker more than there are processors.
	$(BIN)/python -m pytest -n $$(( $$(getconf _NPROCESSORS_ONLN) + 1 )) --dist worksteal $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg
	@if command -v mandoc >/dev/null; then mandoc -T lint -W warning man/*.[58]; \
	elif command -v groff >/dev/null; then test -z "$$(groff -ww -mdoc -Tutf8 man/*.[58] 2>&1 >/dev/null)"; \
	else echo "man pages not checked: install mandoc or groff"; fi
	@sh -n etc/init.d/stomp-broker && sh -n etc/rc.d/stomp_broker

bench: $(INSTALLED)
	$(BIN)/python benchmarks/bench.py $(ARGS)

soak: $(INSTALLED)
	$(BIN)/python tests/faults/soak.py --seconds $(SOAK_SECONDS) $(ARGS)

cuts: $(INSTALLED)
	$(BIN)/python tests/faults/power.py --cuts $(CUTS) --seconds 3600 $(ARGS)

mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py $(ARGS)

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[test,lint]"
	touch $(INSTALLED)

install:
	@# Debian's pip wants to be told that a prefix of one's own is meant.
	PIP_BREAK_SYSTEM_PACKAGES=1 $(PYTHON) -m pip install --prefix "$(DESTDIR)$(PREFIX)" --no-warn-script-location .
	install -d "$(DESTDIR)$(PREFIX)/share/man/man5" "$(DESTDIR)$(PREFIX)/share/man/man8" "$(DESTDIR)$(PREFIX)/lib/systemd/system"
	install -m 644 man/forkbroker.toml.5 "$(DESTDIR)$(PREFIX)/share/man/man5/"
	install -m 644 man/stomp-broker.8 "$(DESTDIR)$(PREFIX)/share/man/man8/"
	install -d "$(DESTDIR)$(PREFIX)/share/doc/forkbroker"
	install -m 644 README.md CHANGELOG.md docs/*.md "$(DESTDIR)$(PREFIX)/share/doc/forkbroker/"
	sed 's|/usr/bin/|$(PREFIX)/bin/|' etc/systemd/stomp-broker.service \
	    > "$(DESTDIR)$(PREFIX)/lib/systemd/system/stomp-broker.service"
	install -m 644 etc/systemd/stomp-broker.socket "$(DESTDIR)$(PREFIX)/lib/systemd/system/"
	@# systemd 253 and newer can wait for the end of a reload.
	version=$$(systemctl --version 2>/dev/null | sed -n '1s/^systemd \([0-9]*\).*/\1/p'); \
	if [ "$${version:-0}" -ge 253 ]; then \
	    install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system/stomp-broker.service.d" && \
	    install -m 644 etc/systemd/notify-reload.conf "$(DESTDIR)$(PREFIX)/lib/systemd/system/stomp-broker.service.d/"; \
	fi
	if [ "$$(uname)" = FreeBSD ]; then \
	    install -d "$(DESTDIR)$(PREFIX)/etc/rc.d" && \
	    install -m 755 etc/rc.d/stomp_broker "$(DESTDIR)$(PREFIX)/etc/rc.d/"; \
	else \
	    install -d "$(DESTDIR)/etc/init.d" && \
	    sed 's|/usr/bin/|$(PREFIX)/bin/|' etc/init.d/stomp-broker > "$(DESTDIR)/etc/init.d/stomp-broker" && \
	    chmod 755 "$(DESTDIR)/etc/init.d/stomp-broker"; \
	fi

clean:
	rm -rf $(VENV) benchmarks/build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
