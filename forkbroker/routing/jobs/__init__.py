"""What is done with messages on their way into a queue, and out of it without an acknowledgement."""
