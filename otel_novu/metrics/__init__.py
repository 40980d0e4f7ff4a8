"""The tables: every metric that leaves, one row each."""
