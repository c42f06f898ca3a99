"""The queues: their messages in memory, their limits, and who may be held because of them.

Nothing here knows the store, or who consumes.
"""
