"""logger=wandb: Lightning's logger of Weights & Biases, with pictures, and with models that know where they came from."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch.loggers
from lightning.pytorch.utilities import rank_zero_only

from lightning_embed.storage.checksum import digests

MODEL = "model"
"""The type of every artifact."""

_SMALL = ("config.json", "modules.json", "config_sentence_transformers.json")


class WandbLogger(lightning.pytorch.loggers.WandbLogger):
    """Writes a run of Weights & Biases; `WANDB_MODE=offline` writes it to a folder that `wandb sync` sends later.

    A model becomes an artifact of type `model`, whose content is its configuration and the SHA-256 of its weights; the same
    model is therefore the same version, whoever logs it. Online, the run also says that it used the models that this
    one was made of, and W&B draws the graph. Offline that is not possible (`use_artifact` raises TypeError, wandb 0.31):
    there the metadata alone name them, as they always do.

    Args:
        save_dir: where the folder `wandb` of the run is written.
        log_model: true: artifacts hold the weights too. Lightning's option of that name, which uploads checkpoints, is off.
        arguments: of Lightning's logger and of `wandb.init`.
    """

    def __init__(self, *, save_dir: str | Path = ".", log_model: bool = False, **arguments: Any) -> None:
        # what writes the files is a process of wandb's own, which may have been started elsewhere, by whoever started this
        super().__init__(save_dir=Path(save_dir).absolute(), log_model=False, **arguments)
        self._wandb_init.pop("anonymous", None)  # Lightning 2.6 always passes it, and wandb 0.31 warns of it
        self.with_weights = log_model

    @rank_zero_only
    def log_picture(self, key: str, file: Path) -> None:
        """Show a PNG; an SVG as a page, because W&B has no panel for it."""
        import wandb

        if file.suffix == ".svg":
            self.log_metrics({key: wandb.Html(file.read_text(encoding="utf-8"), inject=False)})  # type: ignore[dict-item]
        else:
            self.log_image(key, [str(file)])

    @rank_zero_only
    def log_model_directory(
        self, name: str, folder: Path, metadata: Mapping[str, Any], parents: Mapping[str, Path]
    ) -> None:
        """Log a model directory, made of others.

        Args:
            name: of the artifact.
            folder: the directory.
            metadata: what is told of it.
            parents: name of an artifact -> the directory of a model that this one was made of.
        """
        if not self.experiment.offline:
            for parent, place in parents.items():
                self.experiment.use_artifact(self._artifact(parent, place, {}))
        self.experiment.log_artifact(self._artifact(name, folder, metadata))

    def _artifact(self, name: str, folder: Path, metadata: Mapping[str, Any]) -> Any:
        import wandb

        artifact = wandb.Artifact(name, type=MODEL, metadata=dict(metadata))
        with artifact.new_file("sha256.json") as file:
            json.dump(digests(folder.glob("*.safetensors")), file)
        for path, inside in self._files(folder):
            artifact.add_file(str(path), name=inside, policy="immutable")  # no copy: model directories do not change
        return artifact

    def _files(self, folder: Path) -> Iterator[tuple[Path, str]]:
        """Files and their names in the artifact: those that make the model what it is, and the record of a merge."""
        chosen = folder.rglob("*") if self.with_weights else (folder / name for name in _SMALL)
        yield from (
            (path, str(path.relative_to(folder)))
            for path in sorted(chosen)
            if path.is_file()
            and path.name != "README.md"  # which changes with what was measured: the next run would see another version
        )
        if (record := folder.parent / "merge.json").exists():
            yield record, record.name
