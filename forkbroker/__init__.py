"""forkbroker: a STOMP broker made of Unix processes, one child for each client."""

__version__ = "0.2.0"
