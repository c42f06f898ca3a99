"""The table of options, chapter after chapter."""

from __future__ import annotations

from forkbroker.config.options import connections, frame_limits, log, queues, starting, store, tls, topics, web

CHAPTERS = (
    starting.CHAPTER,
    log.CHAPTER,
    connections.CHAPTER,
    tls.CHAPTER,
    web.CHAPTER,
    topics.CHAPTER,
    queues.CHAPTER,
    store.CHAPTER,
    frame_limits.CHAPTER,
)
"""In the order of the help and of the manual page."""

OPTIONS = tuple(option for chapter in CHAPTERS for option in chapter.options)
"""Every option but --help and --version."""

BY_NAME = {option.name: option for option in OPTIONS}
