"""Merge strategies, one file each. A new file in this folder is found under its word; see CONTRIBUTING.md."""
