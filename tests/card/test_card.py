"""Cards of whole runs on the tiny encoder: what they say is so, what is not known is not said."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from omegaconf import OmegaConf

from lightning_embed import load
from lightning_embed.card.origin import Origin
from lightning_embed.card.training import Training, cuts
from lightning_embed.card.write import _commands
from lightning_embed.config.choices import parsed
from lightning_embed.run import merge, train
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning, mteb and Hydra warn of themselves in a whole run
LICENSED = "---\nlicense: mit\nlanguage: en\n---\n# Tiny\n"
MORE = [
    "base_model=team/tiny", "loss@retrieval_loss=matryoshka", "retrieval_loss.dims=[32,16]",
    "+encoder.prompts.query='ask: '", "evaluation.small_vectors=[int8,binary,16,int8@16]",
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder with a card of its own."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    shutil.copytree(tiny_model, folder)
    (folder / "README.md").write_text(LICENSED)
    return folder


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def run(base: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train.train(_cfg("train", [*_overrides(base, toy, out), *MORE]))
    return out


def _merged(out: Path) -> Path:
    (found,) = (out / "merged").glob("*/model")
    return found


def _card(model: Path) -> tuple[dict[str, Any], str]:
    card = ModelCard.load(model / "README.md")
    return card.data.to_dict(), card.text


def _merge(run: Path, out: Path, *more: str) -> Path:
    models = run / "models"
    merge.merge(_cfg("merge", [f"sources=[{models}/retrieval,{models}/sts]", f"out={out}", "logger=none", *more]))
    return _merged(out)


def test_what_the_hub_reads(run: Path) -> None:
    known, text = _card(_merged(run))
    assert known["library_name"] == "sentence-transformers"
    assert known["pipeline_tag"] == "sentence-similarity"
    assert {"merge", "lightning_embed", "sentence-transformers"} <= set(known["tags"])
    assert (known["base_model"], known["base_model_relation"]) == (["team/tiny"], "merge")
    assert known["license"] == "mit"
    assert "Licence: mit" in text
    results = json.loads((run / "results.json").read_text())["models"][_merged(run).parent.name]
    (index,) = known["model-index"]
    told = {result["dataset"]["name"]: result["metrics"][0]["value"] for result in index["results"]}
    assert told == {name: round(score["score"], 2) for name, score in results["test"].items()}, "test, and no dev set"
    expert, _ = _card(run / "models" / "sts")
    assert expert["base_model_relation"] == "finetune"
    assert "merge" not in expert["tags"]


def test_what_people_read(run: Path) -> None:
    _, text = _card(_merged(run))
    results = json.loads((run / "results.json").read_text())["models"]
    for scores in results.values():
        for split in ("dev", "test"):
            for score in scores[split].values():
                assert f"{score['score']:.2f}" in text
    record = json.loads((_merged(run).parent / "merge.json").read_text())
    for model in (*record["sources"], record["base"]):
        for file, digest in model["sha256"].items():
            assert f"{digest}  {model['name']}/{file}" in text
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])["merge"] == "soup"
    assert "facts: 48" in text
    assert "`ask: `" in text.replace('"', "")
    assert "/merged/soup-" in text
    assert str(run) not in text, "where it lies here is nobody else's business"
    assert "made from [team/tiny](https://huggingface.co/team/tiny)." in text


def test_dims_are_told_of_the_expert_that_has_them(run: Path) -> None:
    _, retrieval = _card(run / "models" / "retrieval")
    assert "trained at 32 and 16 dimensions" in retrieval
    assert "truncate_dim=16" in retrieval
    assert "see Small vectors above" in retrieval
    assert "Matryoshka" not in _card(run / "models" / "sts")[1]
    assert "Not all of the training was" in _card(_merged(run))[1]


def test_small_vectors_are_told_as_measured(run: Path) -> None:
    """In the card and on the page, the mean over tasks of every form, of the base too; an ensemble has none."""
    results = json.loads((run / "results.json").read_text())["models"]
    own = _merged(run).parent.name
    for text in (_card(_merged(run))[1].split("### Small vectors")[1], (run / "report.html").read_text()):
        assert "int8, 16 dims" in text
        for scores in (results[own], results["base"]):
            for split in ("dev", "test"):
                for form in ("int8", "binary", "16", "int8@16"):
                    mean = sum(score["small"][form] for score in scores[split].values()) / len(scores[split])
                    assert f"{mean:.2f}" in text
    assert "Small vectors" not in _card(run / "models" / "base")[1]


def test_cuts() -> None:
    def of(*dims: int) -> Training:
        inner = {"name": "matryoshka", "dims": list(dims)} if dims else {"name": "infonce"}
        return Training({"a": 1}, 1, {"retrieval": {"name": "distill", "loss": inner}})

    assert cuts({"one": of(32, 16, 8), "two": of(32, 8)}) == [32, 8]
    assert cuts({"one": of(32, 16), "two": of()}) == []
    assert cuts({}) == []


def test_the_same_bytes_again_and_no_new_measurement(run: Path, base: Path, toy: Path, monkeypatch) -> None:
    """A card lies in the directory by whose content scores are remembered."""
    before = {path: path.read_bytes() for path in run.rglob("README.md")}
    assert len(before) == 4
    monkeypatch.setattr("lightning_embed.config.run_yaml.platform.python_version", lambda: "of a later day")
    monkeypatch.setattr("lightning_embed.evaluation.local._run_local", lambda *_: pytest.fail("measured again"))
    train.train(_cfg("train", [*_overrides(base, toy, run), *MORE]))
    assert before == {path: path.read_bytes() for path in run.rglob("README.md")}


def test_a_merge_of_what_another_run_left(run: Path, tmp_path: Path) -> None:
    """Without data: nothing is measured, and the card says so; how the sources were trained stands in their cards."""
    merged = _merge(run, tmp_path, "merge=slerp", f"base={run}/models/base")
    known, text = _card(merged)
    assert "This model was not measured." in text
    assert "model-index" not in known
    assert (known["base_model"], known["license"]) == (["team/tiny"], "mit")
    assert "facts: 48" in text
    assert "whether the merged models saw them is not known" not in text, "nothing is in a domain"
    assert {path.name for path in (run / "models").iterdir()} == {"base", "retrieval", "sts"}
    card = (run / "models" / "sts" / "README.md").read_text()
    assert "slerp" not in card, "what others made keeps the card that it has"


def test_what_is_not_known(tiny_model: Path, run: Path, tmp_path: Path) -> None:
    for name in ("retrieval", "sts"):
        shutil.copytree(run / "models" / name, tmp_path / "models" / name)
        (tmp_path / "models" / name / "README.md").unlink()
    known, text = _card(_merge(tmp_path, tmp_path / "out"))
    assert not {"license", "base_model", "base_model_relation", "language", "datasets"} & set(known)
    assert "licence of the model that it was made from is not known" in text
    (tmp_path / "models" / "sts" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (tmp_path / "models" / "retrieval" / "README.md").write_text("---\nlicense: mit\n---\n")
    known, text = _card(_merge(tmp_path, tmp_path / "again"))
    assert "license" not in known
    assert "different licences (mit, apache-2.0)" in text


@pytest.mark.parametrize("card", ["", "no front matter", "---\n- a list\n---\n", "---\na: [\n---\n"])
def test_a_card_that_says_nothing(tmp_path: Path, card: str) -> None:
    (tmp_path / "README.md").write_text(card)
    assert Origin.of(str(tmp_path)) == Origin()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("license: [mit]\nlanguage: [en, no]", Origin(license="mit", languages=["en", "no"])),
        ("license: [mit, apache-2.0]\nlanguage: 7", Origin()),
        ("license: other\nlicense_name: theirs", Origin()),
        ("lightning_embed: {training: {rows: {a: 1}, steps: 2, losses: {}, later: 3}}", Origin(training=Training({"a": 1}, 2, {}))),
        ("lightning_embed: {training: {steps: 2}}", Origin()),
        ("lightning_embed: {training: 3}", Origin()),
    ],
)  # fmt: skip
def test_a_card_of_others_or_of_another_version(tmp_path: Path, said: str, expected: Origin) -> None:
    (tmp_path / "README.md").write_text(f"---\n{said}\n---\n")
    assert Origin.of(str(tmp_path)) == expected


def test_the_command_is_the_one_that_was_typed_without_what_is_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        "out=/home/me/x", "out_dtype=bfloat16", "hydra/launcher=ray", "logger=wandb", "experts.only=a", "push_to_hub=me/x", "+let.t=1",
        "data.root='/home/John Doe/data/x'", "sources=[../../secret/a,runs/b,/m]", "base='~/m'", "loss@sts_loss=pro",
        "+encoder.prompts.query='/ask: '", "merge.layers=['*=0.5']", "experts.existing={a: /x/y}",
    ]  # fmt: skip
    monkeypatch.setattr("lightning_embed.config.choices.typed", lambda: parsed(given))
    cfg = OmegaConf.create({"encoder": {}, "out": "runs/x"})
    whole, alone = (shlex.split(_commands(cfg, merged)[0]) for merged in ("soup-1", None))
    kept = [
        "data.root='.../x'", "sources=[.../a,runs/b,.../m]", "base='.../m'", "loss@sts_loss=pro", "+encoder.prompts.query='/ask: '",
        "merge.layers=['*=0.5']", "experts.existing={a: .../y}",
    ]  # fmt: skip
    assert whole == ["python", "train.py", "out_dtype=bfloat16", "+let.t=1", *kept]
    assert alone == ["python", "train.py", "+let.t=1", *(o for o in kept if not o.startswith("merge"))]


def test_names_on_the_hub(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--team--tiny" / "snapshots" / "1a2b"
    snapshot.mkdir(parents=True)
    assert Origin.of(str(snapshot)).names == ["team/tiny"]
    old = tmp_path / "models--tiny" / "snapshots" / "1a2b"
    old.mkdir(parents=True)
    assert Origin.of(str(old)).names == ["tiny"]


def test_one_expert_alone_gets_its_card(base: Path, toy: Path, tmp_path: Path) -> None:
    train.train(_cfg("train", [*_overrides(base, toy, tmp_path), "experts.only=sts"]))
    known, text = _card(tmp_path / "models" / "sts")
    assert known["lightning_embed"]["training"]["rows"] == {"phrases": 48}
    assert "This model was not measured." in text


def test_push(run: Path, base: Path, toy: Path, monkeypatch, capsys) -> None:
    """The merged model, after all is written; its card calls it by its name on the hub."""
    pushed: dict[str, Any] = {}
    monkeypatch.setattr("lightning_embed.storage.hub.push", lambda *given: pushed.update(given=given) or "there")
    merged = _merge(run, run.parent / "pushed", "push_to_hub=team/soup")
    model, name, private, message = pushed["given"]
    assert (model, name, private) == (merged, "team/soup", True)
    assert message.startswith("soup-")
    assert 'SentenceTransformer("team/soup")' in _card(merged)[1]
    assert "pushed: there" in capsys.readouterr().out


def test_an_expert_of_an_earlier_step_says_so(base: Path, toy: Path, tmp_path: Path) -> None:
    more = [
        "experts.only=sts",
        "callback=evaluate",
        "callback.while_training.every_n_steps=3",
        "callback.while_training.keep_best=true",
    ]
    train.train(_cfg("train", [*(o for o in _overrides(base, toy, tmp_path) if o != "callback=default"), *more]))
    choice = json.loads((tmp_path / "checkpoints" / "sts" / "choice.json").read_text())
    known, text = _card(tmp_path / "models" / "sts")
    assert known["lightning_embed"]["training"]["steps"] == choice["exported_step"]
    assert f"these are the weights of step {choice['exported_step']} of 6" in text


@pytest.mark.slow
def test_an_expert_that_starts_from_another_has_its_past(base: Path, toy: Path, tmp_path: Path) -> None:
    """And an average of one that stopped before its time says of how many steps it is."""
    more = [
        "experts=iterative", "experts.ema=0.9", "callback=evaluate", "callback.while_training.every_n_steps=1",
        "callback.while_training.patience=1", "callback.while_training.min_gain=99.0", "merge=soup",
    ]  # fmt: skip
    given = [o for o in _overrides(base, toy, tmp_path) if not o.startswith(("callback=", "experts=", "merge="))]
    train.train(_cfg("train", [*given, *more]))
    known, text = _card(tmp_path / "models" / "2_sts")
    assert "It was trained from `1_retrieval`, itself made from " in text
    assert "facts: 48" in text
    assert known["lightning_embed"]["training"]["rows"] == {"phrases": 48}
    average, _ = _card(tmp_path / "models" / "2_sts-ema")
    assert average["lightning_embed"]["training"]["steps"] == 2


@pytest.mark.slow
def test_the_code_of_a_card_in_a_process_of_its_own(run: Path) -> None:
    """From the rendered card, as a reader would copy it, in the folder of the card."""
    for model in (_merged(run), run / "models" / "retrieval"):
        _, text = _card(model)
        ours = load(model)
        expected = [ours.encode(["Which planet is the largest?"], prompt_name="query")]
        expected.append(ours.encode(["Jupiter is the largest.", "Bread is baked in an oven."]))
        parts = [part.split("```")[0] for part in text.split("```python\n")[1:]]
        assert len(parts) == 2
        for part in parts:
            code = f"{part}\nimport json\nprint(json.dumps([queries.tolist(), documents.tolist()]))"
            done = subprocess.run([sys.executable, "-c", code], cwd=model, check=True, capture_output=True, text=True)
            for theirs, known in zip(json.loads(done.stdout.splitlines()[-1]), expected, strict=True):
                torch.testing.assert_close(torch.tensor(theirs), known, rtol=0, atol=1e-5)
