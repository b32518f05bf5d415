"""The folder of the embedded data set, generated on first use."""

from pathlib import Path

from filelock import FileLock

from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.publish import discard, make_folder, published_folder
from lightning_embed.storage.seal import is_whole_folder, seal_folder


def sample_folder(cache: Path) -> Path:
    """The folder of the embedded data set, generated on first use, and again after a change of its generator."""
    from lightning_embed.data import sample

    folder = cache / f"sample-{fingerprint(Path(sample.__file__).parent)}"
    if not is_whole_folder(folder):
        make_folder(cache)
        with FileLock(cache / "sample.lock"):  # the other processes wait for the first
            if not is_whole_folder(folder):
                discard(folder)
                with published_folder(folder) as partial:
                    sample.write_sample(partial)
                    seal_folder(partial)
    return folder
