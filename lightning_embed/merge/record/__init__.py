"""merge.json: the record of a merge, and its comparison with the models on disk."""
