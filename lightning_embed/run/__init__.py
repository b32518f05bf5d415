"""A run: `prepare`, then `inspect` or `execute`."""
