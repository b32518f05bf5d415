"""Merge strategies, one file each. A file dropped here is a strategy like ours; see CONTRIBUTING.md."""
