"""What others use instead of forkbroker, measured with the same generator: the parts of `compare.py`.

clients.py      what the generator asks of a protocol; one module for each protocol has it
servers.py      each server, started on the loopback with data of its own
generator.py    the traffic, the same for all
rows.py         what is measured
"""
