"""Process groups, seeds, signals, standard streams, finite numbers and fault injection."""
