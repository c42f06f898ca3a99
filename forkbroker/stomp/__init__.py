"""Bytes to frames and back: STOMP 1.0, 1.1 and 1.2 without sockets, clocks or logs.

Stands alone: nothing here imports anything of the broker but its bounded dictionaries (`caches`). `parser.Parser`
turns what a client sent into frames and runs of frames, `encoder` turns frames into bytes, `negotiation` settles
version and heart-beats. What differs between the versions is one record of flags, `versions.Version`.
"""
