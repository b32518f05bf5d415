"""Loggers of numbers, tables, pictures and models, and the functions through which a run writes to them."""
