"""Scores of models: files, means, intervals."""
