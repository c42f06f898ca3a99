"""Tests of the store: its backends, and its process with a test in the place of the parent."""
