"""What several directories of tests need."""
