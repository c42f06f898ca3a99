"""The process of one client: its socket on one side, the channel to the parent on the other."""
