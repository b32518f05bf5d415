"""Importing a module registers its strategy."""

from lightning_embed_singular import iso_c as iso_c
from lightning_embed_singular import magmax as magmax
from lightning_embed_singular import tsv as tsv
