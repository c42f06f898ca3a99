"""The helper that runs the administrator's program that says who a client is, with the rights that it needs."""
