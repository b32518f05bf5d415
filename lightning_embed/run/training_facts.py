"""Facts about the trainings of a run, for the model cards of its experts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from lightning_embed.callback.evaluate import read_choice
from lightning_embed.card.origin import Origin
from lightning_embed.card.training import Training, written
from lightning_embed.config import run_yaml
from lightning_embed.config.identity import training_seed
from lightning_embed.config.values import LOSS_OF_TASK, plain, shown_config
from lightning_embed.config.words import own_loss
from lightning_embed.data import EmbeddingDataModule
from lightning_embed.data.options import DatasetOptions
from lightning_embed.encoder.parameter_groups import ParameterGroups
from lightning_embed.experts import ExpertPlan
from lightning_embed.run.plan import PlannedTraining
from lightning_embed.sampler import StepSampler
from lightning_embed.sampler.seen import rows_seen


def trainings(plan: ExpertPlan, training: PlannedTraining, out: Path) -> dict[str, Training]:
    """The training of each model that the training of an expert made, by name.

    Args:
        plan: names the models of an expert.
        training: training that this run has done.
        out: folder of the run.
    """
    cfg, expert, batches = training.cfg, training.expert, training.batches
    stream = batches.steps()
    steps = batches.num_steps(*training.limits)
    chosen = shown_config(cfg)
    sizes = ", ".join(f"{name} {feed.batch_size}" for name, feed in stream.datasets.items())
    whole = Training(
        rows={name: len(rows) for name, rows in batches.train_rows.items()},
        steps=steps,
        losses={},
        start=expert.start,
        options={"rows of a batch": sizes} | _options(chosen),
        versions=_versions(out / "models" / expert.name),
    )
    whole.options["seed"] = training_seed(cfg, expert)
    by_source = {}
    for number, name in enumerate(plan.models(expert), start=1):
        by_source[name] = replace(whole, steps=round(steps * plan.part_done(expert, number)))
    choice = read_choice(out / "checkpoints" / expert.name)
    if plan.ema is not None:
        average = {"exponential average of the weights": plan.ema}
        name = plan.models(expert)[-2]
        last_step = choice["last_step"] if choice else steps
        by_source[name] = replace(whole, steps=last_step, options=whole.options | average)
    if choice:
        by_source[expert.name] = _chosen(by_source[expert.name], choice)
    return {name: _with_seen(training, batches, stream, chosen) for name, training in by_source.items()}


def _with_seen(
    training: Training, batches: EmbeddingDataModule, stream: StepSampler, chosen: dict[str, Any]
) -> Training:
    """The training with the rows that its steps have seen, and with losses and names on the hub of those datasets."""
    seen = rows_seen(stream, training.steps)
    used = {name: rows.options for name, rows in batches.train_rows.items() if seen[name].drawn}
    return replace(
        training,
        seen={name: rows.distinct for name, rows in seen.items()},
        drawn={name: rows.drawn for name, rows in seen.items()},
        losses=dict(_loss(name, options, chosen) for name, options in used.items()),
        datasets=[
            options.path for options in used.values() if isinstance(options.path, str) and _is_on_hub(options.path)
        ],
    )


def _loss(name: str, options: DatasetOptions, chosen: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Task and loss of a dataset; its name and its loss, if that is its own."""
    if options.loss is None:
        return str(options.task), chosen[LOSS_OF_TASK[options.task]]
    return name, plain(OmegaConf.create(own_loss(name, options.loss)), as_words=True)


def _versions(model: Path) -> dict[str, str]:
    """The versions with which a model was trained: those in its card, or the current ones if it has no card yet."""
    training = Origin.of(str(model)).training
    return run_yaml.versions() if training is None or not training.versions else training.versions


def _chosen(training: Training, choice: dict[str, Any]) -> Training:
    """The training of an expert whose step was chosen by evaluations, and which may have stopped early."""
    exported, last = choice["exported_step"], choice["last_step"]
    measured = {"measured while training": f"by {choice['metric']}; these are the weights of step {exported} of {last}"}
    return replace(training, steps=exported, options=training.options | measured)


def _options(chosen: dict[str, Any]) -> dict[str, Any]:
    """The options of a training that its card lists, besides rows and losses."""
    optimizer, scheduler, encoder = chosen["optimizer"], chosen["scheduler"], chosen["encoder"]
    options = {
        "sampler": written(chosen["sampler"]),
        "optimizer": f"{_word(optimizer)}, learning rate {optimizer['lr']}, "
        f"weight decay {optimizer.get('weight_decay', 'its default')}",
        "learning rate over time": f"{_word(scheduler)}, warm-up share {scheduler.get('warmup_share')}",
        "gradient": f"clipped to the norm {chosen['max_grad_norm']}" if chosen["max_grad_norm"] else "not clipped",
        "arithmetic": encoder["dtype"]
        if encoder["dtype"] != "auto"
        else "bfloat16 where the machine is fast at it, else float32",
    }
    groups = {
        name: value for name, value in chosen["parameter_groups"].items() if value != getattr(ParameterGroups(), name)
    }
    if groups:
        options["groups of parameters"] = ", ".join(f"{name} {value}" for name, value in groups.items())
    if mined := chosen["mining"]["datasets"]:
        models = {key: chosen["mining"][key] for key in ("model", "cross_encoder")}
        named = {key: Path(path).name if path and Path(path).exists() else path for key, path in models.items()}
        options[f"hard negatives mined with {named['model'] or 'the base'} for"] = ", ".join(mined)
        more = {"cross-encoder": named["cross_encoder"], "scores of a teacher": chosen["mining"]["scores"]}
        options |= {key: str(value) for key, value in more.items() if value is not None}
        if (rounds := chosen["mining"]["rounds"]) > 1:
            options["rounds of mining"] = f"{rounds}, each after the first with a model trained on the one before"
    if (path := chosen["teacher"]["path"]) is not None:
        options["teacher"] = Path(path).name if Path(path).exists() else path
    if encoder["layers"]:
        options["layers"] = f"{', '.join(map(str, encoder['layers']))} of the base model, counted from 0"
    if encoder["num_layers"]:
        options["layers"] = f"the first {encoder['num_layers']} of the base model"
    if encoder["lora_rank"]:
        options["LoRA"] = f"rank {encoder['lora_rank']}, alpha {encoder['lora_alpha']:g}, folded into the weights"
    if encoder["peft"]:
        chosen_options = {name: value for name, value in encoder["peft"].items() if name != "_target_"}
        adapter = written({"name": _word(encoder["peft"]).removesuffix("Config"), **chosen_options})
        options["adapters"] = f"{adapter} of peft, folded into the weights"
    if encoder["weights"] != "float32":
        options["frozen weights"] = f"rounded to {encoder['weights']}; saved as float32"
    return options


def _word(component: dict[str, Any]) -> str:
    return str(component["_target_"]).rpartition(".")[2]


def _is_on_hub(path: str) -> bool:
    """Whether a dataset with this path was read from the hub."""
    return not path.startswith("sample:") and not Path(path).exists()
