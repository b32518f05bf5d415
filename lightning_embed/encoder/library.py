"""sentence-transformers' modules, imported without what transformers prints on the way where W&B is offline."""

from contextlib import redirect_stdout
from io import StringIO

with redirect_stdout(StringIO()):
    from sentence_transformers.sentence_transformer import modules

__all__ = ["modules"]
