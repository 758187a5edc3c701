"""The benchmark: every method on the same bag, each in a process of its own."""
