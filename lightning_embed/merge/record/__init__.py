"""merge.json: what was merged, how, and whether it is still so."""
