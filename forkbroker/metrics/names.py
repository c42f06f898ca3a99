"""The names of all metrics, and what each of them means. man/forkbroker-metrics.7 has the same; a test compares."""

from __future__ import annotations

PREFIX = "forkbroker_"

TOTALS = {
    "messages-received": "Messages that clients have sent",
    "messages-forwarded": "Copies of messages to topics that went to subscribers",
    "messages-dropped": "Messages that were dropped",
    "messages-refused": "Messages that were refused",
    "messages-claimed": "Messages that consumers have taken from queues",
    "messages-redelivered": "Of these, those that were taken before",
    "messages-acknowledged": "Messages that consumers have acknowledged",
    "messages-requeued": "Messages that went back to their queues",
    "messages-dead-lettered": "Messages that went to dead-letter queues",
    "messages-expired": "Messages whose time to live was over",
    "messages-delayed": "Messages that were sent for later",
    "messages-deduplicated": "Messages that were sent a second time",
    "messages-written": "Persistent messages that were given to the store",
    "messages-spilled": "Messages that were given to the store because memory is bounded",
    "leases-ended": "Messages that were taken back from slow consumers",
    "settlements-late": "ACKs and NACKs of messages that were no longer the client's",
    "offers-made": "Offers of messages to consumers",
    "offers-lost": "Offers that another consumer has taken",
    "offers-passed": "Offers for which a consumer had no room",
    "offers-overdue": "Offers that were not answered in time",
    "producers-held": "Times that a producer was held because of a full queue",
}
"""Counters: the names of `totals` in the answer to `status`. As a metric `forkbroker_messages_received_total`."""

GAUGES = {
    "running": "1 if clients may come, 0 if the broker is drained or ends",
    "start_time_seconds": "When the broker started, in seconds since 1970",
    "clients": "Clients",
    "queues": "Queues, without durable subscriptions",
    "durable_subscriptions": "Durable subscriptions",
    "messages": "Messages in all queues, by state: waiting, unsettled, delayed",
    "message_bytes": "Bytes of the messages in all queues",
    "memory_used_bytes": "Bytes of messages in the memory of the parent process",
    "memory_limit_bytes": "Bytes that these may have",
    "store_open": "1 if a store process works",
    "store_refusing": "1 if the store can take nothing",
    "store_uncommitted_bytes": "Bytes that the store has to write",
    "processes": "Processes, by role",
    "process_pss_bytes": "Memory of all processes of a role, shared pages in proportion",
    "process_pss_max_bytes": "Memory of the largest process of a role",
    "process_cpu_max_seconds": "Processor time of the process of a role that has used most",
    "queue_messages": "Messages in a queue, by state",
    "queue_bytes": "Bytes of the messages in a queue",
    "queue_consumers": "Consumers of a queue",
    "queue_blocked_producers": "Producers that wait for room in a queue",
    "queue_oldest_seconds": "How long the oldest waiting message has been in a queue",
    "queues_without_series": "Queues that are summed as other",
}

COUNTERS = {
    "channel_bytes": "Bytes between the parent process and the processes of clients, by direction: received, sent",
    "client_processes_ended": "Processes of clients that have ended",
    "process_cpu_seconds": "Processor time of all processes of a role, of those that have ended as well",
    "queue_entered": "Messages that have come to a queue",
    "queue_left": "Messages that have left a queue",
}
"""Their names end with `_total`."""

HISTOGRAMS = {
    "turn_seconds": "Turns of the parent's loop, from the end of the wait to the end of the turn",
    "commit_seconds": "From a change of what is stored to its commit, as the parent process sees it",
}
