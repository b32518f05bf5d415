"""The `--help` page: each registered word in one line, and the words of the other config groups."""

from collections.abc import Callable

from lightning_embed import registry

_ROOMS = {
    "sampler": "order of the datasets in a training",
    "experts": "models to train, and the rows of each",
    "merge": "merge of the models into one",
    "loss": "objective of each task   (loss@retrieval_loss=, loss@sts_loss=, loss@label_loss=)",
}
_GROUPS = (
    "encoder data mining teacher probe doctor evaluation logger optimizer parameter_groups scheduler trainer callback "
    "experiment"
)
_EXAMPLES = {
    "python train.py": "the embedded data, one expert per task, a soup",
    "python train.py experiment=boom data=mine inspect=true": "a paper on your data: print rows, plan and cost",
    "python train.py -m experts=joint,bagging merge=ties seed=1,2,3": "a sweep with one table at its end, resumable",
    "python merge.py merge=slerp 'sources=[a,b]' base=c": "merge existing models",
    "python merge.py 'compare=[runs/a,runs/b]'": "finished runs side by side, with the noise of differences",
}
_NOTES = (
    "Every option: --cfg job      One group: --cfg job -p merge      Your own files: --config-dir my-conf",
    "Sweep: -m      Side by side: -m hydra/launcher=joblib (ray, submitit_slurm)      Search: -m hydra/sweeper=search",
    "Tab completes words and options of `python train.py` after:   "
    'eval "$(python train.py --shell-completion install=bash)"',
)


def help_page(words: Callable[[str], list[str]]) -> str:
    """The page; `words` lists the words of a config group."""
    lines = ["Train general text-embedding models on many tasks, merge the models, measure them.", ""]
    for room, content in _ROOMS.items():
        lines += [f"{room}=   {content}"]
        lines += [f"    {entry.name:<18}{entry.summary}" for entry in registry.entries(room)] + [""]
    lines += [f"{group}=   {', '.join(words(group)) or '(none yet)'}" for group in _GROUPS.split()]
    lines += ["", "Examples", *(f"    {command:<64}{purpose}" for command, purpose in _EXAMPLES.items()), "", *_NOTES]
    return "\n".join(line.replace("$", "$$") for line in lines)
