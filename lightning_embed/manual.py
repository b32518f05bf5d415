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
        "    python train.py                                           the embedded data, one expert per task, a soup",
        "    python train.py experts=joint sampler=round_robin         one model on everything",
        "    python train.py experts=bagging loss@sts_loss=codiemb     one expert per random share of the data, another loss",
        "    python train.py data=ir_sts data.root=... merge=slerp     real data, another merge",
        "    python train.py inspect=true                              look at the data and the plan first",
        "    python merge.py -m merge=soup,slerp 'sources=[a,b]'       merge models that you have",
        "    python merge.py recipe=<merge.json>                       the same merge again, to the last bit",
        "",
        "Every option: --cfg job      One group: --cfg job -p merge      Sweep: -m",
    ]
    return "\n".join(line.replace("$", "\\$") for line in lines)
