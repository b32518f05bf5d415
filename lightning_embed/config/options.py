"""The options of a command: the roots of conf/train.yaml and conf/merge.yaml, and the group `data`."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING as UNSET

from lightning_embed.merge import OutDtype
from lightning_embed.types import StepMode


@dataclass(frozen=True)
class RunOptions:
    """The root options that both commands have: conf/run.yaml.

    Args:
        name: of the run: first part of its folder.
        seed: of everything that is random.
        out: folder of the run; the same config is the same folder.
        group: of the logged runs of this command.
        part: what is being logged now: filled in by the pipeline.
        out_dtype: of a merged model's weights.
        measure_sources: score the sources of the merge too, beside the base and the merged model.
        ensemble: also measure the mean of the sources' similarities: what merging is up against, at the cost of N encoders.
        remember_embeddings: keep what evaluations encode, by weights and text, for the next evaluation of the same model
            on other tests, or in an ensemble; 4 bytes a dimension and text, in the cache folder.
        let: numbers of your own, for other options to name as ${let.<name>}: a search over what is part of a text or of a list.
        push_to_hub: name on the Hugging Face hub, owner/name, that the model is pushed to when all is written; None: it is not.
        push_private: whether a repository that is made for it is private.
        license: of the models, for their cards; None: what the card of the base says, if it says so.
        base_model: name of the base on the hub, for the cards, where it is a directory here; None: not known.
        optimized_metric: the number that a sweep maximises: dev/mean, or dev/<task>.
    """

    name: str = UNSET
    seed: int = 42
    out: str = UNSET
    group: str = UNSET
    part: Any = None
    let: dict[str, float] = field(default_factory=dict)
    optimized_metric: str = "dev/mean"
    data: Any = UNSET
    retrieval_loss: Any = UNSET
    sts_loss: Any = UNSET
    label_loss: Any = UNSET
    merge: Any = UNSET
    probe: Any = UNSET
    doctor: Any = UNSET
    measure_sources: bool = True
    ensemble: bool = False
    remember_embeddings: bool = False
    push_to_hub: str | None = None
    push_private: bool = True
    license: str | None = None
    base_model: str | None = None
    out_dtype: OutDtype = OutDtype.float32
    evaluation: Any = UNSET
    logger: Any = UNSET
    experiment: Any = None


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Root of conf/train.yaml: each question of a run, one key.

    Args:
        inspect: show the data as the encoder sees it, the plan and its cost, and stop before training.
        max_grad_norm: clip the gradient of a step to this L2 norm; null: never.
        step: how a training step runs its chunks: plain (all at once), cached (twice, one at a time),
            partial (cached, but chunks whose activations fit step_memory run once).
        step_memory: GiB of activations that a partial step may keep.
        checkpoint_minutes: time between checkpoints for resuming.
    """

    inspect: bool = False
    encoder: Any = UNSET
    mining: Any = UNSET
    sampler: Any = UNSET
    experts: Any = UNSET
    optimizer: Any = UNSET
    scheduler: Any = UNSET
    max_grad_norm: float | None = 1.0
    trainer: Any = UNSET
    callback: Any = UNSET
    step: StepMode = StepMode.plain
    step_memory: float = 2.0
    checkpoint_minutes: float = 10.0


@dataclass(frozen=True)
class MergeOptions(RunOptions):
    """Root of conf/merge.yaml.

    Args:
        sources: model directories to merge, or one glob pattern each.
        recipe: the merge.json of a merge to be repeated; it says all that `sources` and the other options of a merge say.
        base: the model that all sources started from; null: a strategy that needs none.
        sizes: rows that each source was trained on, for weighting=size.
        compare: folders of finished runs, or one glob pattern each: one table and one page of all, and nothing is merged.
    """

    sources: list[str] | None = None
    recipe: str | None = None
    base: str | None = None
    sizes: list[int] | None = None
    compare: list[str] | None = None
