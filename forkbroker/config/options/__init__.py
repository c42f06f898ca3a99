"""What can be set.

A module for each chapter of stomp-broker(8), with the rows of its options; `option` says what a row has, `table` joins
the chapters.
"""
