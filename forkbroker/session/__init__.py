"""What one client may do, and what its frames mean: rules, without sockets, clocks and logs."""
