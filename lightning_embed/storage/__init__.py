"""Files: publication, checksums, shapes of JSON, names, the disk, the cache folder and the hub."""
