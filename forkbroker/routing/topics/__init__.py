"""Topics: who listens now, and whose messages are kept until they do."""
