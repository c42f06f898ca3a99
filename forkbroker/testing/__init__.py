"""For the tests of programs that use the broker, and for the broker's own."""
