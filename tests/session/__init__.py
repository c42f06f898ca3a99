"""Tests of forkbroker.session: no process, no socket, no sleep."""
