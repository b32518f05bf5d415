"""The probe of a run: what it computes is what training computes; which rows it takes; refusals."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lightning_embed import load, load_datasets
from lightning_embed.data import DatasetOptions, EmbeddingDataset
from lightning_embed.data.probe_batches import ProbeBatches
from lightning_embed.data.probe_options import ProbeOptions
from lightning_embed.encoder import Encoder
from lightning_embed.encoder.options import Attention, Dtype, EncoderOptions
from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.evaluation import Local
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.merge import Probe
from lightning_embed.run import build
from lightning_embed.run.merge_probe import EncoderProbe, ProbeMaker
from lightning_embed.training.gather import local
from lightning_embed.types import Task
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

LOSSES = {Task.retrieval: InfoNCE(), Task.sts: CoSENT()}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, EmbeddingDataset]:
    folder = write_toy(tmp_path_factory.mktemp("toy"), rows=40)
    return load_datasets(
        {
            "pairs": DatasetOptions(Task.retrieval, str(folder / "pairs")),
            "few": DatasetOptions(Task.retrieval, str(folder / "pairs"), max_rows=5),
            "scores": DatasetOptions(Task.sts, str(folder / "scores"), score_range=[0.0, 1.0]),
        }
    )


def _encoder(tiny_model: Path, attention: Attention = Attention.auto) -> Encoder:
    return Encoder(EncoderOptions(str(tiny_model), attention=attention, dtype=Dtype.float32))


def _batches(data: Mapping[str, EmbeddingDataset], tiny_model: Path, **options: object) -> ProbeBatches:
    return ProbeBatches(data, ProbeOptions(batch_size=8, **options), _encoder(tiny_model), seed=3)  # type: ignore[arg-type]


def _probe(data: Mapping[str, EmbeddingDataset], encoder: Encoder) -> EncoderProbe:
    batches = ProbeBatches(data, ProbeOptions(batch_size=8), encoder, seed=3)
    eval_sets = [eval_set for dataset in data.values() for eval_set in dataset.eval_sets]
    return EncoderProbe(encoder, LOSSES, batches, Local(), eval_sets, "dev/mean")


def _parameters(encoder: Encoder, scale: float = 1.0) -> dict[str, Tensor]:
    return {name: scale * parameter.detach().clone() for name, parameter in encoder.backbone.named_parameters()}


# the rows


def test_tasks_have_equal_shares_and_take_turns(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    batches = _batches(data, tiny_model)
    assert batches.num_batches == {"pairs": 4, "few": 1, "scores": 5}  # 40 rows a task: few has 5 of 45
    tasks = [batches[number].task for number in range(len(batches))]
    assert [Counter(tasks[:n])[Task.sts] for n in (2, 4, 6, 8, 10)] == [1, 2, 3, 4, 5]
    assert [batches.task(number) for number in range(len(batches))] == tasks


def test_a_pass_holds_every_drawn_row_once_and_the_next_in_another_order(
    data: Mapping[str, EmbeddingDataset], tiny_model: Path
) -> None:
    batches = _batches(data, tiny_model, datasets=["scores"])
    rows = [[row for plan in batches._pass(turn) for row in plan.rows.tolist()] for turn in (0, 1)]
    assert sorted(rows[0]) == sorted(rows[1]) == list(range(40))
    assert rows[0] != rows[1]
    assert torch.equal(batches[7].tokens.ids, _batches(data, tiny_model, datasets=["scores"])[7].tokens.ids)


def test_shares_and_number_of_rows(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    options = {"task_shares": {"sts": 3.0, "retrieval": 1.0}, "datasets": ["pairs", "scores"]}
    assert _batches(data, tiny_model, **options).num_batches == {"pairs": 1, "scores": 5}
    assert _batches(data, tiny_model, num_rows=32, **options).num_batches == {"pairs": 1, "scores": 3}
    assert _batches(data, tiny_model, task_shares={"sts": 1.0}).num_batches == {"scores": 5}


# what is computed


@pytest.mark.parametrize("attention", [Attention.packed, Attention.eager])
def test_loss_and_gradient_are_those_of_the_losses(
    attention: Attention, data: Mapping[str, EmbeddingDataset], tiny_model: Path
) -> None:
    encoder, other = _encoder(tiny_model, attention), _encoder(tiny_model).eval()
    probe = _probe(data, encoder)
    assert isinstance(probe, Probe)
    parameters = _parameters(other, scale=0.9)
    for name, parameter in other.backbone.named_parameters():
        parameter.data = parameters[name].clone()
    for number in range(2):
        batch = probe.batches[number]
        expected = LOSSES[batch.task](local(batch, other(batch.tokens))).value
        other.zero_grad()
        expected.backward()
        value, gradient = probe.loss_and_gradient(parameters, number)
        assert value == pytest.approx(float(expected.detach()), rel=1e-5)
        assert probe.loss(parameters, number) == pytest.approx(value, rel=1e-5)
        wanted = {name: p.grad for name, p in other.backbone.named_parameters() if p.grad is not None}
        assert gradient.keys() == wanted.keys()
        assert len(wanted) > 20
        for name in wanted:
            torch.testing.assert_close(gradient[name], wanted[name], rtol=1e-4, atol=1e-6)


def test_weights_are_those_given_and_not_changed(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    encoder = _encoder(tiny_model)
    probe = _probe(data, encoder)
    plain, double = _parameters(encoder), _parameters(encoder, scale=1.5)
    before = {name: tensor.clone() for name, tensor in double.items()}
    first = probe.loss(plain, 0)
    assert probe.loss(double, 0) != pytest.approx(first, rel=1e-3)
    probe.loss_and_gradient(double, 1)
    assert probe.loss(plain, 0) == first
    assert all(torch.equal(double[name], before[name]) for name in double)


@pytest.mark.parametrize("attention", [Attention.packed, Attention.eager])
def test_activations_are_the_inputs_of_linear_layers(
    attention: Attention, data: Mapping[str, EmbeddingDataset], tiny_model: Path
) -> None:
    """The outputs that they give are those of the layer, for every token and for no padding."""
    encoder = _encoder(tiny_model, attention)
    probe = _probe(data, encoder)
    layer = "encoder.layer.1.intermediate.dense"
    outputs: list[Tensor] = []
    module = encoder.backbone.get_submodule(layer)
    handle = module.register_forward_hook(lambda _, inputs, output: outputs.append(output.flatten(0, -2)))
    parameters = _parameters(encoder)
    inputs = [x for name, x in probe.activations(parameters, 0) if name == f"{layer}.weight"]
    handle.remove()
    found = torch.cat(inputs)
    assert len(found) == len(probe.batches[0].tokens.ids)
    expected = found @ parameters[f"{layer}.weight"].T + parameters[f"{layer}.bias"]
    torch.testing.assert_close(expected, torch.cat(outputs), rtol=1e-5, atol=1e-5)
    names = {name for name, _ in probe.activations(parameters, 0)}
    assert len(names) == 12  # two layers of query, key, value, output, intermediate, output


def test_activations_are_the_same_packed_and_padded(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    grams = []
    for attention in (Attention.packed, Attention.eager):
        encoder = _encoder(tiny_model, attention)
        name, total = "encoder.layer.1.output.dense.weight", torch.zeros(64, 64)
        for found, inputs in _probe(data, encoder).activations(_parameters(encoder), 1):
            total += inputs.T @ inputs if found == name else 0
        grams.append(total)
    torch.testing.assert_close(grams[0], grams[1], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_score_is_the_mean_of_dev(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    encoder = _encoder(tiny_model)
    found = _probe(data, encoder).score(_parameters(encoder))
    results = Local(splits=("dev",))(load(tiny_model), [s for d in data.values() for s in d.eval_sets])
    scores = {name: score["score"] for name, score in results["dev"].items()}
    assert found == pytest.approx(((scores["pairs"] + scores["few"]) / 2 + scores["scores"]) / 2)


def test_names_with_a_prefix_are_understood(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    encoder = _encoder(tiny_model)
    probe = _probe(data, encoder)
    parameters = _parameters(encoder)
    assert probe.loss({f"bert.{name}": tensor for name, tensor in parameters.items()}, 0) == probe.loss(parameters, 0)
    _, gradient = probe.loss_and_gradient({f"bert.{name}": tensor for name, tensor in parameters.items()}, 0)
    assert "bert.embeddings.word_embeddings.weight" in gradient


# of a run


def _maker(tmp_path: Path, tiny_model: Path, *overrides: str) -> ProbeMaker:
    cfg = _cfg("train", _overrides(tiny_model, tmp_path / "toy", tmp_path, *overrides))
    return ProbeMaker(cfg, build.datasets(cfg))


def test_it_computes_as_the_run_trains(tiny_model: Path, tmp_path: Path) -> None:
    """What was set so that training fits the memory holds for the merge too."""
    write_toy(tmp_path / "toy")
    probe = _maker(tmp_path, tiny_model, "encoder.dtype=bfloat16", "encoder.max_tokens=64")(tiny_model)
    assert (probe.encoder.options.dtype, probe.encoder.options.max_tokens) == (Dtype.bfloat16, 64)


def test_what_it_rows_hash_has_a_name(tiny_model: Path, tmp_path: Path) -> None:
    """By content: a merge that looked at other rows, or chose by others, is another merge."""
    write_toy(tmp_path / "toy")
    before, again = _maker(tmp_path, tiny_model), _maker(tmp_path, tiny_model)
    assert (before.rows_hash, before.scores_hash) == (again.rows_hash, again.scores_hash)
    assert before.rows_hash != _maker(tmp_path, tiny_model, "probe.num_rows=8").rows_hash
    for split in ("train", "dev"):
        file = tmp_path / f"toy/pairs/{split}.jsonl"
        file.write_text("".join(reversed(file.read_text().splitlines(keepends=True))))
        after = _maker(tmp_path, tiny_model)
        assert (before.rows_hash != after.rows_hash) is (split == "train")
        assert (before.scores_hash != after.scores_hash) is (split == "dev")
        before = after


# refusals


def test_unknown_parameter(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    with pytest.raises(CheckpointError, match=r"The encoder of the probe has no parameter decoder.weight"):
        _probe(data, _encoder(tiny_model)).loss({"decoder.weight": torch.zeros(1)}, 0)


def test_no_rows(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    only_tests = {name: replace(dataset, train=None) for name, dataset in data.items()}
    with pytest.raises(ConfigError, match="A probe needs train rows, and no dataset has at least 2"):
        _batches(only_tests, tiny_model)
    with pytest.raises(ConfigError, match=r"probe.task_shares.clustering: no dataset trains clustering"):
        _batches(data, tiny_model, task_shares={"clustering": 1.0, "sts": 1.0})
    name, *_ = data
    with pytest.raises(ConfigError, match=rf"probe.datasets: {name} has fewer than 2 train rows"):
        _batches({**data, name: replace(data[name], train=None)}, tiny_model, datasets=list(data))


def test_no_dev_set(data: Mapping[str, EmbeddingDataset], tiny_model: Path) -> None:
    encoder = _encoder(tiny_model)
    probe = EncoderProbe(encoder, LOSSES, _probe(data, encoder).batches, Local(), [], "dev/mean")
    with pytest.raises(ConfigError, match="dev/mean: no dataset has a dev set to choose by"):
        probe.score(_parameters(encoder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_rows": 1}, "probe.num_rows: expected at least 2, got 1"),
        ({"batch_size": 1}, "probe.batch_size: expected at least 2, got 1"),
        ({"task_shares": {"sts": 0.0}}, "probe.task_shares.sts: expected a positive number, got 0.0"),
    ],
)
def test_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProbeOptions(**options)  # type: ignore[arg-type]


def test_a_group_counts_as_a_task(data: dict[str, EmbeddingDataset], tiny_model: Path) -> None:
    """Retrieval rows that the config counts as sts: a share of their own, and their name in every report."""
    grouped = dict(data)
    options = replace(data["pairs"].options, group="entailment")
    train = data["pairs"].train
    assert train is not None
    grouped["pairs"] = replace(data["pairs"], options=options, train=replace(train, options=options))
    batches = _batches(grouped, tiny_model, task_shares={"entailment": 1.0})
    assert list(batches.num_batches) == ["pairs"]
    assert batches.task(0) == "entailment"
    assert batches[0].task == Task.retrieval, "its loss is that of its rows"
