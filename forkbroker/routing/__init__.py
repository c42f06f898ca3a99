"""Rules: destinations, topics, queues, claims. Envelopes from processes go in, envelopes to processes come out.

No input or output, no clock, no log, and no knowledge of STOMP: only of envelopes.
"""
