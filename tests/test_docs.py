"""Every command of the README and of docs/ is run, in a folder with small data and a small model; what cannot be run here is composed and checked."""

import json
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from hydra.core.hydra_config import HydraConfig
from safetensors.torch import load_file, save_file

from lightning_embed import load
from lightning_embed.cli import launch
from lightning_embed.config import compose
from tests.pages import Command, Page
from tests.toy import write_toy

ROOT = Path(__file__).parent.parent
PAGES = [Page(path) for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
NAMING = [*(page.path for page in PAGES), ROOT / "CONTRIBUTING.md"]
_PATH = r"(?<![\w/.-])(?:lightning_embed|tests|conf|plugins|benchmarks|docs|examples)/[\w./<>-]*[\w/>]"
TO_WRITE = {f"plugins/{word}.py" for word in ("halfway", "huber", "largest_first", "halves")}  # by the reader

# What a page's command is made smaller by, unless it says so itself.
SMALL = {
    "encoder.path": "my-model", "encoder.max_length": "32", "trainer.max_steps": "4", "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": "false",
}  # fmt: skip
LONG = {
    "trainer.max_epochs": "-1",
    "encoder.max_length": "32",
    "hydra.sweeper.n_trials": "2",
    "seed": "1,2",
    "mining.relative_margin": "null",  # random weights find none beyond a margin
    "retrieval_loss.dims": "[32,16]",
    "sts_loss.dims": "[32,16]",
    "encoder.num_layers": "1",
}  # replaced where it is given
# For composing: what a reader has to fill in.
FILLED_IN = {
    "data.root=...": "data.root=somewhere",
    "data.root=/tmp/small": "data.root=somewhere",
    "hydra/sweeper=grid_small": "",  # tests/config/test_experiments.py composes every cell of every grid
    "[...]": "[a,b]",
    "base=...": "base=c",
    "soup,slerp,...": "soup,slerp",
    "...": "",
}
# What is not run, part of the line -> why; `python train.py` and `python merge.py` are composed and checked all the same.
NOT_RUN = {
    "trainer.devices=": "several GPUs",
    "torchrun": "several GPUs, or FlagEmbedding, which is not installed here",
    "sbatch ": "Slurm",
    "hydra/launcher=": "run by the tests of sweeps, or a cluster",
    "/shared/": "a disk that several machines share",
    "hydra/sweeper=grid_small": "three hours",
    "pip install -c": "a set-up of its own",
    "make quickstart": "a set-up of its own, and a minute of training: done by hand before every release",
    "data.root=...": "real data",
    "python train.py ...": "real data",
    "data.root=/tmp/small": "real data",
    "push_to_hub=": "tests/storage/test_hub.py pushes, to a server of its own",
    "hf ": "the hub",
    "mirror=s3": "object storage; tests/run/test_mirror.py has a folder",
    "cross-encoder/": "a model of the hub; tests/run/test_mining.py has one of its own",
    "STS12,SciFact": "mteb downloads its tasks",
    "wandb sync": "the server of W&B",
    "wandb_dashboard.py": "the server of W&B; tests/logger builds it",
    "wandb.entity=": "an account",
    "http.server": "serves until it is stopped",
    "benchmarks/": "hours, or real data: what the tables of that page were made by",
}


def _answers(command: Command) -> list[str]:
    """The pieces of the answer that stand between `...`, white space aside."""
    return [" ".join(piece.split()) for piece in command.answer.split("...") if piece.strip()]


def _why_not(command: Command) -> str | None:
    """A reason of NOT_RUN; what is refused is run always."""
    return next((why for part, why in NOT_RUN.items() if part in command.line and "Error:" not in command.answer), None)


def _adds_code(page: Page) -> bool:
    """Whether a page of docs/ adds words or modules: they are known to new processes only."""
    files = page.files() if page.path.stem.startswith("own-") else {}
    return any(name.endswith(".py") for name in files) or any(c.line.startswith("pip install") for c in page.commands())


def _arguments(line: str, folder: Path) -> list[str] | None:
    """The arguments of train.py or merge.py, as a shell gives them; None: another program."""
    scripts = "".join(f'lightning-embed-{name}() {{ python {name}.py "$@"; }}\n' for name in ("train", "merge"))
    launcher = """torchrun() { while [[ $1 == -* ]]; do shift; done; python "$@"; }\n"""
    script = 'python() { printf "%s\\0" "$@"; }\n' + launcher + scripts + line
    if not any(word in line for word in ("train.py", "merge.py", "lightning-embed-")) or "pytest" in line:
        return None
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout.split("\0")[:-1]


def _write_files(page: Page, folder: Path) -> None:
    for name, content in page.files().items():
        if name.startswith("examples/"):
            assert content == (ROOT / name).read_text(), f"{page.path.name} shows another {name}"
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.path.stem != "while-training")) for page in PAGES],
    ids=lambda page: page.path.stem,
)
def test_every_command_composes(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is not run. A command that is to be refused is checked by its answer, where it is run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "nobody asks whether it is valid")
    _write_files(page, tmp_path)
    if _adds_code(page):
        pytest.skip("its words are not known here; all its commands are run")
    for command in [*page.commands(), *map(Command, page.inline())]:
        line = re.sub(r"\$\([^)]*\)", "made-before", command.line)
        for part, value in FILLED_IN.items():
            line = line.replace(part, value)
        assert all((ROOT / script).exists() for script in re.findall(r"benchmarks/\S+\.(?:py|sh)", line)), line
        arguments = _arguments(line, tmp_path)
        if arguments is None or "Error:" in command.answer or "--help" in arguments:
            continue
        monkeypatch.setattr(sys, "argv", list(arguments))
        compose.check_command(Path(arguments[0]).stem, *launch._arguments())


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.stem)
def test_every_path_exists(path: Path) -> None:
    """Of the checkout; `<word>` stands for any name."""
    mentioned = set(re.findall(_PATH, path.read_text()))
    assert [name for name in mentioned - TO_WRITE if not any(ROOT.glob(re.sub("<[^>]*>", "*", name)))] == []


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.stem)
def test_every_dotted_name_exists(path: Path) -> None:
    """Modules and their members: `lightning_embed.runtime.seeding.derive_seed`."""
    for name in set(re.findall(r"\blightning_embed(?:\.[A-Za-z_]\w*)+", path.read_text())):
        pkgutil.resolve_name(name)


def test_every_block_of_code_is_a_file_or_a_command() -> None:
    assert {page.path.name: page.unnamed() for page in PAGES if page.unnamed()} == {}


def test_nothing_is_excused_in_vain() -> None:
    lines = [command.line for page in PAGES for command in page.commands()]
    assert [part for part in NOT_RUN if not any(part in line for line in lines)] == []
    assert {name for name in TO_WRITE if any(name in path.read_text() for path in NAMING)} == TO_WRITE


@pytest.fixture
def desk(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a reader has: data in several formats, models, and the checkout."""
    for name in ("train.py", "merge.py", "examples", "tests", "conf"):
        (tmp_path / name).symlink_to(ROOT / name)
    _write_data(tmp_path / "my-data")
    load(str(tiny_model)).save(tmp_path / "my-model")
    for number, name in enumerate(("models/base", "models/law", "models/medicine")):
        _write_model(tmp_path / "my-model", tmp_path / name, 0.02 * number)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_data(folder: Path) -> None:
    write_toy(folder, rows=160)
    pairs, scores = (
        [json.loads(line) for line in (folder / name / "train.jsonl").open()] for name in ("pairs", "scores")
    )
    (folder / "pairs").rename(folder / "tickets")
    (folder / "scores").rename(folder / "similar")
    tables = {
        "faq": [{"query": row["query"], "pos": row["positives"], "neg": row["negatives"]} for row in pairs],
        "nli": [{"anchor": r["query"], "positive": r["positives"][0], "negative": r["negatives"][0]} for r in pairs],
        "sts": [{"sentence1": r["text1"], "sentence2": r["text2"], "score": 5 * r["score"]} for r in scores],
        "topics": [{"text": row["query"], "label": row["query"].split()[2]} for row in pairs],
        "broken": [*pairs[:16], {**pairs[16], "query": ""}],
    }
    for name, rows in tables.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sts.xlsx").write_text("no table")
    _write_raw(folder, tables)
    _write_beir(folder / "scifact", [row["query"] for row in pairs[:8]])


def _write_raw(folder: Path, tables: dict[str, list[dict]]) -> None:
    """The same rows as a csv, shards of parquet, a tsv, a folder of save_to_disk, train qrels, and by id."""
    rows = [f'{n},"{row["query"]}","{row["pos"][0]}"\n' for n, row in enumerate(tables["faq"])]
    (folder / "faq.csv").write_text("id,question,answer\n" + "".join(rows))
    (folder / "intents.tsv").write_text(
        "text\tlabel\n" + "".join(f"{r['text']}\t{r['label']}\n" for r in tables["topics"])
    )
    scored = [{**row, "score": 20 * row["score"]} for row in tables["sts"]]
    for number in range(2):
        Dataset.from_list(scored[number::2]).to_parquet(str(folder / f"pairs-0000{number}-of-00002.parquet"))
    Dataset.from_list(tables["nli"]).train_test_split(0.2, seed=0).save_to_disk(str(folder / "saved"))
    _write_beir(folder / "beir", [row["query"] for row in tables["faq"][:60]])
    (folder / "beir/qrels/train.tsv").write_text((folder / "beir/qrels/test.tsv").read_text())
    (folder / "by-id").mkdir()
    shutil.copy(folder / "beir/corpus.jsonl", folder / "by-id/corpus.jsonl")
    by_id = [{"query": f"where is {n}", "pos_id": [f"c{n}"], "neg_id": [f"c{n - 1}"]} for n in range(1, 60)]
    (folder / "by-id/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in by_id))


def _write_beir(folder: Path, texts: Sequence[str]) -> None:
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        records = [{"_id": f"{name[0]}{number}", "text": text} for number, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    judged = "".join(f"q{number}\tc{number}\t1\n" for number in range(len(texts)))
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")


def _write_model(base: Path, folder: Path, distance: float) -> None:
    """A fine-tune of `base` that nobody has trained."""
    folder.parent.mkdir(exist_ok=True)
    subprocess.run(["cp", "-r", str(base), str(folder)], check=True)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(int(1000 * distance))
    moved = {name: t + distance * torch.randn(t.shape, generator=generator) for name, t in tensors.items()}
    save_file(moved, folder / "model.safetensors", metadata={"format": "pt"})


def _smaller(arguments: Sequence[str]) -> list[str]:
    """The same command, for two cores and a minute."""
    names = [argument.lstrip("+").partition("=")[0] for argument in arguments]
    kept = [f"{n}={LONG[n]}" if n in LONG else argument for n, argument in zip(names, arguments, strict=True)]
    if arguments[0] != "train.py" or {"--help", "--cfg"} & set(arguments):
        return kept
    given = set(names) - {"trainer.max_steps"}
    return [*kept, *(f"{key}={value}" for key, value in SMALL.items() if key not in given)]


def _typed(line: str, desk: Path) -> tuple[int, str]:
    """In a shell of its own; what `pip install` installs is seen by the next ones."""
    environment = {**os.environ, "PYTHONPATH": f"{desk}/.site:{ROOT}"}
    pip = f"{sys.executable} -m pip install -q --no-build-isolation --no-deps --target {desk}/.site"
    line = re.sub("^pip install", pip, line)
    line = re.sub("^python ", f"{sys.executable} ", line)
    done = subprocess.run(["bash", "-ec", line], cwd=desk, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def _launched(
    arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """What train.py and merge.py do, without the seconds that imports take."""
    monkeypatch.setattr(sys, "argv", list(arguments))
    capfd.readouterr()
    code = 0
    try:
        launch.launch(Path(arguments[0]).stem)
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        HydraConfig.instance().cfg = None  # what else this process does is of no command line
    return code, "".join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning and Hydra warn of themselves in a whole run
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(_why_not(command) is None for command in page.commands())],
    ids=lambda page: page.path.stem,
)
def test_every_command_runs(
    page: Page, desk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the order of the page: what one command makes, the next may use."""
    _write_files(page, desk)
    if "runs/a" in page.path.read_text():  # two runs that the reader has
        for line in ("python train.py out=runs/a", "python train.py experts=joint merge=none out=runs/b"):
            code, out = _launched(_smaller(_arguments(line, desk) or []), monkeypatch, capfd)
            assert code == 0, out[-3000:]
    for command in page.commands():
        if _why_not(command) is not None:
            continue
        arguments = _arguments(command.line, desk)
        if arguments is None or _adds_code(page):
            line = command.line if arguments is None else shlex.join(["python", *_smaller(arguments)])
            code, out = _typed(line, desk)
        else:
            code, out = _launched(_smaller(arguments), monkeypatch, capfd)
        assert bool(code) == ("Error:" in command.answer), f"{command.line}\n{out[-3000:]}"
        for piece in _answers(command):
            assert piece in " ".join(out.split()), f"{command.line}\n{out[-3000:]}"


def test_the_tests_that_the_page_of_reliability_names() -> None:
    """Every row of its tables names tests that exist, file by file."""
    rows = [line for line in (ROOT / "docs/reliability.md").read_text().splitlines() if line.startswith("| ")]
    named = [row.rsplit(" | ", 1)[1] for row in rows if "tests/" in row]
    assert len(named) > 50
    for cell in named:
        file = ""
        for part in re.findall(r"tests/[\w/]+\.py|::\w+", cell):
            if part.startswith("tests/"):
                file = (ROOT / part).read_text()
            else:
                assert f"def {part.removeprefix('::')}(" in file, f"{part} of: {cell}"
