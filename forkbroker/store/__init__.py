"""The store: keeps messages that are to survive, and those that memory has no room for."""
