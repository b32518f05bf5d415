"""Process groups, seeds and fault injection."""
