"""Between queues and consumers: offers, answers, and what consumers hold."""
