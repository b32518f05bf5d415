"""What `--help` shows: the words of each room, one line each."""

from collections.abc import Callable

from lightning_embed import registry


def help_page(words: Callable[[str], list[str]]) -> str:
    """The page; `words` gives the words of a config group."""
    lines = ["Train general text-embedding models on many tasks, merge the models, measure them.", ""]
    questions = {
        "sampler": "In which order do the datasets feed a model?",
        "experts": "Which models are trained, each on what?",
        "merge": "How do the models become one?",
        "loss": "What does a task minimise?   (loss@retrieval_loss=, loss@sts_loss=, loss@label_loss=)",
    }
    for room, question in questions.items():
        lines += [f"{room}=   {question}"]
        lines += [f"    {entry.name:<18}{entry.summary}" for entry in registry.entries(room)] + [""]
    groups = "encoder data mining probe doctor evaluation logger optimizer scheduler trainer callback experiment"
    for group in groups.split():
        lines += [f"{group}=   {', '.join(words(group)) or '(none yet)'}"]
    lines += [
        "",
        "Examples",
        "    python train.py                                            the embedded data, one expert per task, a soup",
        "    python train.py experiment=boom data=mine inspect=true     a paper on your data; look at rows, plan and cost first",
        "    python train.py -m experts=joint,bagging merge=ties seed=1,2,3    a sweep: one table at its end, resumed when killed",
        "    python merge.py merge=slerp 'sources=[a,b]' base=c         merge models that you have",
        "    python merge.py 'compare=[runs/a,runs/b]'                  finished runs side by side, and what is noise",
        "",
        "Every option: --cfg job      One group: --cfg job -p merge      Your own files: --config-dir my-conf",
        "Sweep: -m      Side by side: -m hydra/launcher=joblib (ray, submitit_slurm)      Search: -m hydra/sweeper=search",
        'Tab completes words and options of `python train.py` after:   eval "$(python train.py --shell-completion install=bash)"',
    ]
    return "\n".join(line.replace("$", "$$") for line in lines)
