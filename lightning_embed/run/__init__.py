"""The story of a run: prepare, then inspect or execute."""
