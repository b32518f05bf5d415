"""Process groups, seeds, finite numbers and fault injection."""
