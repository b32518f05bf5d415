"""Parts of parameter names that wrappers of a model leave in its checkpoint."""

import re
from collections.abc import Iterable

from lightning_embed.errors import CheckpointError

_WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_fpw_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
    "module": "DataParallel",
    "0.auto_model": "SentenceTransformer",
}
_UNIQUE = re.compile(
    r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_fpw_module|_checkpoint_wrapped_module|_forward_module)\."
)
# Words that a model may use itself: wrappers only where all names have them.
_COMMON = re.compile(r"((?:[^.]+\.)*?)(module|0\.auto_model)\.")


def unwrapped(names: Iterable[str], what: object) -> tuple[dict[str, str], tuple[str, ...]]:
    """Name without wrappers -> name in the file, and a note if there are wrappers.

    Wrappers with a name of their own (`_orig_mod.`) are found anywhere in a name; `module.` and `0.auto_model.` where
    all names of the checkpoint begin with it, or have it behind the same prefix.

    Args:
        names: in the file.
        what: path in the message.

    Raises:
        CheckpointError: two names are the same without their wrappers.
    """
    names = list(names)
    short = [_UNIQUE.sub("", name) for name in names]
    found = {part for name in names for part in _UNIQUE.findall(name)}
    while short and (prefix := _COMMON.match(short[0])) and all(name.startswith(prefix[0]) for name in short):
        short = [prefix[1] + name.removeprefix(prefix[0]) for name in short]
        found.add(prefix[2])
    own: dict[str, str] = {}
    for new, old in zip(short, names, strict=True):
        if new in own:
            raise CheckpointError(
                f"{what}: {own[new]} and {old} are one tensor, {new}, without their wrappers. Save the model again, "
                "unwrapped."
            )
        own[new] = old
    told = ", ".join(f"{part}. ({_WRAPPERS[part]})" for part in sorted(found))
    return own, (f"names are read without the wrapper {told}.",) if found else ()
