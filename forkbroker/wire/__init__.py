"""Envelopes, and the channel on which they travel between the broker's processes."""
