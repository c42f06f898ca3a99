"""The parent: accepts connections, forks a child for each, routes between them, and survives them all."""
