"""Blocks of parameters, as every strategy reads them, and inner products of deltas."""
