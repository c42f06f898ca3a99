"""What can be set: the table of options."""
