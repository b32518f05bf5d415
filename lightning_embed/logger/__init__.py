"""Loggers that keep tables, pictures and models beside numbers, and what a run writes into them."""
