"""The operating system as the broker's processes see it: the loop, signals, children, daemon, limits, semaphores."""
