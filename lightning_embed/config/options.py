"""The root options of both commands: conf/run.yaml, conf/train.yaml and conf/merge.yaml."""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING as UNSET

from lightning_embed.config.plugins import Plugins
from lightning_embed.merge import OutDtype, Vocabulary
from lightning_embed.types import StepMode


@dataclass(frozen=True)
class RunOptions:
    """The root options of both commands: conf/run.yaml.

    Args:
        name: first part of the name of the run's folder.
        seed: seed of everything random.
        out: folder of the run; the same config on the same data has the same folder.
        group: group of the logged runs of this command.
        part: part of the run that is being logged; set by the run.
        out_dtype: dtype of a merged model's weights.
        vocabulary: model whose vocabulary and tokenizer a merged model has, base or first (source), where those of the
            models differ: rows of embeddings are moved by token. null: differing vocabularies are refused.
        measure_sources: evaluate the sources of the merge too, besides the base and the merged model.
        ensemble: also evaluate the mean of the sources' similarities, which runs N encoders.
        remember_embeddings: keep the embeddings of evaluated texts in the cache folder, for further evaluations of the
            same weights; 4 bytes per dimension and text.
        let: your own numbers, which other options use as ${let.<name>}, for example inside a text or a list.
        plugins: words of your own: `here`, of installed packages and of the files in plugins/ of the working directory;
            `installed`, of packages alone. On the command line only.
        push_to_hub: owner/name on the Hugging Face hub; the model is pushed there at the end of the run. null: no push.
        push_private: make a new repository on the hub private.
        export: further formats of the run's model, written to its folder: openvino (with the extra `openvino`), onnx.
        mirror: storage that keeps a copy of the folder of the run, as s3://bucket/runs; the same command on an empty machine
            goes on from it. null: none.
        license: license in the model cards; null: the license in the card of the base.
        base_model: hub name of the base in the model cards, if the base is a local directory; null: unknown.
        optimized_metric: metric that a sweep maximises, in points: dev/mean, the mean over tasks of dev scores, or
            dev/<task>.
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
    plugins: Plugins = Plugins.here
    push_to_hub: str | None = None
    push_private: bool = True
    export: list[str] = field(default_factory=list)
    mirror: str | None = None
    license: str | None = None
    base_model: str | None = None
    out_dtype: OutDtype = OutDtype.float32
    vocabulary: Vocabulary | None = None
    evaluation: Any = UNSET
    logger: Any = UNSET
    experiment: Any = None


@dataclass(frozen=True)
class TrainOptions(RunOptions):
    """Root of conf/train.yaml: one key per choice.

    Args:
        inspect: print the data as the encoder sees it, the plan and its cost; train nothing.
        max_grad_norm: L2 norm to which the gradient of a step is clipped; null: no clipping.
        step: execution of the chunks of a training step: plain (all at once), cached (two passes, one chunk at a time),
            partial (cached, except that chunks whose activations fit step_memory run once).
        step_memory: GiB of activations that step=partial keeps from the first pass.
        checkpoint_minutes: minutes between checkpoints for resuming.
        grace_seconds: seconds from a signal (SIGTERM, Ctrl-C ...) to the end of the process, in which a training
            finishes its step and saves a checkpoint.
    """

    inspect: bool = False
    encoder: Any = UNSET
    mining: Any = UNSET
    teacher: Any = UNSET
    sampler: Any = UNSET
    experts: Any = UNSET
    optimizer: Any = UNSET
    parameter_groups: Any = UNSET
    scheduler: Any = UNSET
    max_grad_norm: float | None = 1.0
    trainer: Any = UNSET
    callback: Any = UNSET
    step: StepMode = StepMode.plain
    step_memory: float = 2.0
    checkpoint_minutes: float = 10.0
    grace_seconds: float = 60.0


@dataclass(frozen=True)
class MergeOptions(RunOptions):
    """Root of conf/merge.yaml.

    Args:
        sources: model directories to merge; a glob pattern stands for its matches, sorted.
        recipe: merge.json of a merge to repeat, instead of `sources` and the other options of a merge.
        base: model that all sources started from; null: none, for strategies without task vectors.
        sizes: rows that each source was trained on, for merge.weighting=size.
        compare: folders of finished runs, or glob patterns, to compare in one table and one page, instead of a merge.
    """

    sources: list[str] | None = None
    recipe: str | None = None
    base: str | None = None
    sizes: list[int] | None = None
    compare: list[str] | None = None
