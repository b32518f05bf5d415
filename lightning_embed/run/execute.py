"""`execute`: fit each expert of a prepared run, then finalize."""

import gc
from dataclasses import replace

from lightning_embed.card import Training, write_cards
from lightning_embed.config import run_yaml
from lightning_embed.config.queries import is_first
from lightning_embed.report import Run
from lightning_embed.report.scores import results_file
from lightning_embed.run import build, finished, service, teacher
from lightning_embed.run.check_signal import check_signal
from lightning_embed.run.cost import costs
from lightning_embed.run.finalize import Finalize
from lightning_embed.run.fit import fit, num_rows
from lightning_embed.run.merge_probe import ProbeMaker
from lightning_embed.run.mining import mined
from lightning_embed.run.plan import print_experts
from lightning_embed.run.prepare import Prepared
from lightning_embed.run.ranks import form_group
from lightning_embed.run.terminal import console
from lightning_embed.run.training_facts import trainings
from lightning_embed.runtime import distributed
from lightning_embed.storage import mirroring
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.publish import discard, settle_below
from lightning_embed.types import BASE


def execute(prepared: Prepared) -> float | None:
    """Train, merge, evaluate and report. Returns the `optimized_metric`, in points; None on all ranks but the first."""
    begin(prepared)
    form_group()
    print_experts(prepared.cfg, prepared.trainings, prepared.train_sets)
    prepared = with_teacher(with_mined_negatives(prepared))
    for training in prepared.trainings:
        fit(prepared.plan, training, prepared.out)
        gc.collect()  # a Trainer and its module refer to each other, and hold the weights and moments of the expert
    if prepared.plan.only is not None:
        if distributed.rank() == 0:
            _end_of_one_expert(prepared)
        return None
    if distributed.rank() != 0:
        service.serve()
        return None
    with service.lead():
        return _finalize(prepared)


def begin(prepared: Prepared) -> None:
    """Write run.yaml and, as experts are saved, the base; on rank zero."""
    if is_first(prepared.cfg):
        if reason := run_yaml.changes_since_last_run(prepared.out, prepared.cfg.name, prepared.identity):
            console.print(reason, markup=False, highlight=False)
        run_yaml.refuse_other_run(prepared.out, prepared.identity)  # another process may have been faster
        for folder in (prepared.out, CACHE):
            settle_below(folder)
        run_yaml.write(prepared.cfg, prepared.out, prepared.identity)
        results_file.read(prepared.out)  # a broken one is refused before the training, not after it
        _export_base(prepared)
        mirroring.published()
    prepared.affinity.save()  # every rank writes the same file


def _export_base(prepared: Prepared) -> None:
    """Save the base as experts are saved; one that has changed since, which the same command makes again, is replaced."""
    out, folder = prepared.out, prepared.out / "models" / BASE
    if folder.exists() and (reason := finished.changed(out, BASE)) is not None:
        console.print(f"{reason} Making it again.", markup=False, highlight=False)
        discard(folder)
    if not folder.exists():
        finished.forget_missing(out, [BASE])
        prepared.base.export(folder)
        finished.record(out, [BASE])


def with_mined_negatives(prepared: Prepared) -> Prepared:
    """The run with mined hard negatives in the datasets of `mining`, and with new batches of them."""
    cfg = prepared.cfg
    if not cfg.mining.datasets:
        return prepared
    data = mined(cfg, prepared.data, prepared.base, prepared.out)
    check_signal(cfg, {name: data[name] for name in cfg.mining.datasets}, prepared.base)
    new_trainings = [
        replace(training, batches=build.datamodule(training.cfg, data, prepared.base, training.expert))
        for training in prepared.trainings
    ]
    return replace(prepared, data=data, trainings=new_trainings)


def with_teacher(prepared: Prepared) -> Prepared:
    """The run with the embeddings of its teacher in all batches, where losses need them."""
    cfgs = [training.cfg for training in prepared.trainings]
    if not cfgs or (found := teacher.vectors(cfgs, prepared.data)) is None:
        return prepared
    new_trainings = [
        replace(each, batches=build.datamodule(each.cfg, prepared.data, prepared.base, each.expert, found))
        for each in prepared.trainings
    ]
    return replace(prepared, teacher=found, trainings=new_trainings)


def _end_of_one_expert(prepared: Prepared) -> None:
    """Write the card of the only expert, and print how to continue."""
    out, only = prepared.out, prepared.plan.only
    write_cards(prepared.cfg, Run(out), prepared.sources, out / "models" / BASE, trainings=_trainings(prepared))
    console.print(
        f"{only} is in {out / 'models'}. Train all experts, then run the command without experts.only to merge them."
    )


def _finalize(prepared: Prepared) -> float | None:
    cfg, out = prepared.cfg, prepared.out
    spent = {training.expert.name: num_rows(training, out) for training in prepared.trainings}
    return Finalize(
        cfg,
        prepared.strategy,
        prepared.sources,
        out / "models" / BASE,
        build.scores(cfg, prepared.evaluator, prepared.data),
        ProbeMaker(cfg, prepared.data, prepared.teacher),
        costs=costs(prepared.plan, prepared.experts, spent),
        trainings=_trainings(prepared),
    ).run()


def _trainings(prepared: Prepared) -> dict[str, Training]:
    """The trainings of all sources, for the cards."""
    by_expert = [trainings(prepared.plan, each, prepared.out) for each in prepared.trainings]
    return {name: training for of_expert in by_expert for name, training in of_expert.items()}
