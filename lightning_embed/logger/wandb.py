"""Logger of logger=wandb: Lightning's logger of Weights & Biases, with pictures, and with models and their lineage."""

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

    A model becomes an artifact of type `model`, whose content is its configuration and the SHA-256 of its weights; the
    same model is therefore the same version in every run. Online, the run also records that it used the models that
    this one was made from, and W&B draws the graph. Offline this is not possible (`use_artifact` raises TypeError,
    wandb 0.31). The metadata name these models in both cases.

    Args:
        save_dir: parent of the run's folder `wandb`.
        log_model: true: artifacts hold the weights too. Lightning's option of that name, which uploads checkpoints, is
            off.
        arguments: of Lightning's logger and of `wandb.init`.
    """

    def __init__(self, *, save_dir: str | Path = ".", log_model: bool = False, **arguments: Any) -> None:
        # wandb writes the files in a process of its own, which may have another working directory
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
        """Log a model directory as an artifact.

        Args:
            name: of the artifact.
            folder: the directory.
            metadata: of the artifact.
            parents: name of an artifact -> the directory of a model that this one was made from.
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
        """Files and their names in the artifact: configuration, weights if wanted, and the record of a merge."""
        chosen = folder.rglob("*") if self.with_weights else (folder / name for name in _SMALL)
        yield from (
            (path, str(path.relative_to(folder)))
            for path in sorted(chosen)
            if path.is_file()
            and path.name != "README.md"  # it changes with the measured scores: the next run would see another version
        )
        if (record := folder.parent / "merge.json").exists():
            yield record, record.name
