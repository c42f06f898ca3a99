"""What clients ask of the broker itself: each request is carried out in portions, by the handler of its verb.

`forkbroker.control` has the table of verbs. Here each of them has a handler, in a module for each topic, and `control`
does all that is the same for all of them. Handlers give plain data: how it looks is the business of who has asked.
"""
