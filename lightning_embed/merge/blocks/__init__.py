"""Parameters in blocks: the streams that every strategy reads, and inner products of deltas."""
