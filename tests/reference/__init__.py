"""Slow versions, written from the papers' formulas: loops over rows, float64, no shared code with the library."""
