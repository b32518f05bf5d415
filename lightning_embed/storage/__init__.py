"""Files: atomic writes, checksums, names, the cache folder and the hub."""
