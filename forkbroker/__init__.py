"""forkbroker: a STOMP broker made of Unix processes, one child for each client."""

__version__ = "0.1.0"
