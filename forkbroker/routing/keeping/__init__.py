"""What the broker keeps: what a change of a queue means for memory, and what for the store."""
