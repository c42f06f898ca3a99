"""Tests of the routing rules: no process, no clock."""
