"""From the plan of a run to what the cards of its experts tell of their trainings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lightning_embed.callback.evaluate import read_choice
from lightning_embed.card.origin import Origin
from lightning_embed.card.training import Training, written
from lightning_embed.config import run_yaml
from lightning_embed.config.identity import training_seed
from lightning_embed.config.values import LOSS_OF_TASK, plain
from lightning_embed.data import EmbeddingDataModule
from lightning_embed.experts import Expert, ExpertPlan


def trainings(
    cfg: DictConfig, plan: ExpertPlan, expert: Expert, batches: EmbeddingDataModule, out: Path
) -> dict[str, Training]:
    """The training of each source that an expert gives to the merge.

    Args:
        cfg: of the run.
        plan: says what the sources of an expert are.
        expert: one that this run has trained.
        batches: that it was trained on.
        out: folder of the run.
    """
    used = {name: rows.options for name, rows in batches.train_rows.items()}
    steps = batches.num_steps(cfg.trainer.max_steps, cfg.trainer.max_epochs)
    chosen: dict[str, Any] = plain(cfg, as_words=True)
    whole = Training(
        rows={name: len(rows) for name, rows in batches.train_rows.items()},
        steps=steps,
        losses={str(options.task): chosen[LOSS_OF_TASK[options.task]] for options in used.values()},
        start=expert.start,
        options={"rows of a batch": ", ".join(f"{name} {o.batch_size}" for name, o in used.items())} | _options(chosen),
        versions=_versions(out / "models" / expert.name),
        datasets=[o.path for o in used.values() if o.path is not None and _is_on_hub(o.path)],
    )
    whole.options["seed"] = training_seed(cfg, expert)
    found = {}
    for number, name in enumerate(plan.sources(expert), start=1):
        found[name] = replace(whole, steps=round(steps * min(1.0, number / plan.snapshots)))
    choice = read_choice(out / "checkpoints" / expert.name)
    if plan.ema is not None:
        average = {"exponential average of the weights": plan.ema}
        name = plan.sources(expert)[-2]
        found[name] = replace(whole, steps=choice["last_step"] if choice else steps, options=whole.options | average)
    if choice:
        found[expert.name] = _chosen(found[expert.name], choice)
    return found


def _versions(model: Path) -> dict[str, str]:
    """Those that trained it: of its first card, because a later run writes another one."""
    told = Origin.of(str(model)).training
    return run_yaml.versions() if told is None or not told.versions else told.versions


def _chosen(training: Training, choice: dict[str, Any]) -> Training:
    """Of an expert that was measured while it trained: it may be of an earlier step, and may have stopped before its time."""
    exported, last = choice["exported_step"], choice["last_step"]
    told = {"measured while training": f"by {choice['metric']}; these are the weights of step {exported} of {last}"}
    return replace(training, steps=exported, options=training.options | told)


def _options(chosen: dict[str, Any]) -> dict[str, Any]:
    """What is worth knowing of a training, beside its rows and losses."""
    optimizer, scheduler, encoder = chosen["optimizer"], chosen["scheduler"], chosen["encoder"]
    options = {
        "sampler": written(chosen["sampler"]),
        "optimizer": f"{_word(optimizer)}, learning rate {optimizer['lr']}, weight decay {optimizer.get('weight_decay', 'its default')}",
        "learning rate over time": f"{_word(scheduler)}, warm-up share {scheduler.get('warmup_share')}",
        "gradient": f"clipped to the norm {chosen['max_grad_norm']}" if chosen["max_grad_norm"] else "not clipped",
        "arithmetic": encoder["dtype"]
        if encoder["dtype"] != "auto"
        else "bfloat16 where the machine is fast at it, else float32",
    }
    if mined := chosen["mining"]["datasets"]:
        options["hard negatives mined with the base for"] = ", ".join(mined)
    if encoder["lora_rank"]:
        options["LoRA"] = f"rank {encoder['lora_rank']}, alpha {encoder['lora_alpha']:g}, folded into the weights"
    return options


def _word(component: dict[str, Any]) -> str:
    return str(component["_target_"]).rpartition(".")[2]


def _is_on_hub(path: str) -> bool:
    """Of a dataset that was read."""
    return not path.startswith("sample:") and not Path(path).exists()
