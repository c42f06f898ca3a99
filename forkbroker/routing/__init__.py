"""Rules: destinations, topics, queues, claims. Envelopes from processes go in, envelopes to processes come out.

No input or output, no clock, no log, and no knowledge of STOMP: only of envelopes.

The rooms point one way, each knows those below it alone (setup.cfg has them as contracts):

    router.py                   a peer's envelope, and what follows
    sending.py                  what a destination means for a SEND; the way to topics
    stored.py    describing.py  what the store says; what there is, in words
    offers/                     between queues and consumers: offers, answers, what is held
    jobs/        topics/        the way in and the way back, and what waits for its time; who listens
    keeping/                    what a change means for memory and for the store
    queues/                     names, limits, and the messages that wait in memory
    kit.py                      what every rule has at hand: timers, rows, chores, counters
    handover.py  records.py     what rules know, as plain data for another process
"""
