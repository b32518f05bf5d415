"""Importing a module registers its strategy."""

from lightning_embed_magmax import magmax as magmax
