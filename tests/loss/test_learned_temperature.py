"""A learned temperature against the loss at that temperature, its derivative, and refusals."""

import math
from dataclasses import replace

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.loss.base import Contrastive, Learned
from lightning_embed.loss.cosent import CoSENT
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.loss.infonce_focal import InfoNCEFocal
from lightning_embed.loss.infonce_hard import Hardened, InfoNCEHard
from lightning_embed.loss.infonce_joint import InfoNCEJoint
from lightning_embed.loss.learned_temperature import LOG_SCALE, LearnedTemperature
from lightning_embed.loss.matryoshka import Matryoshka
from lightning_embed.loss.multi_positive import MultiPositive
from lightning_embed.types import Embeddings, LossInput
from tests.loss.equal import assert_equal

CONTRASTIVE = {
    "infonce": InfoNCE(margin=0.1, symmetric=True),
    "infonce of own negatives": InfoNCE(in_batch=False, margin=0.1),
    "infonce_hard": InfoNCEHard(hardened=Hardened.all),
    "infonce_focal": InfoNCEFocal(),
    "infonce_joint": InfoNCEJoint(margin=0.1),
    "multi_positive": MultiPositive(),
}
every_loss = pytest.mark.parametrize("loss", CONTRASTIVE.values(), ids=CONTRASTIVE.keys())


def _at(batch: LossInput, log_scale: torch.Tensor) -> LossInput:
    return replace(batch, score=None, learned={LOG_SCALE: log_scale})


@every_loss
@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.3])
def test_it_is_the_loss_at_that_temperature(loss_input: LossInput, loss: Contrastive, temperature: float) -> None:
    batch = _at(loss_input, torch.tensor(-math.log(temperature), dtype=torch.float64))
    ours = LearnedTemperature(loss)(batch)
    assert_equal(ours.value, replace(loss, temperature=temperature)(batch).value, batch)
    torch.testing.assert_close(ours.logs["temperature"].item(), temperature)
    assert loss.temperature == 0.05


@every_loss
def test_without_a_training_the_temperature_is_the_start(loss_input: LossInput, loss: Contrastive) -> None:
    ours, theirs = LearnedTemperature(loss)(loss_input), loss(loss_input)
    assert_equal(ours.value, theirs.value, loss_input)
    assert ours.logs == theirs.logs


@every_loss
@pytest.mark.filterwarnings("ignore:.*grad.*")
def test_its_derivative(loss_input: LossInput, loss: Contrastive) -> None:
    """By differences, for losses without constants of the gradient; of the others below."""
    if isinstance(loss, (InfoNCEHard, InfoNCEFocal)):
        loss = InfoNCE(temperature=loss.temperature)
    log_scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: LearnedTemperature(loss)(_at(loss_input, s)).value, log_scale)


def test_weights_of_negatives_do_not_depend_on_it(loss_input: LossInput) -> None:
    """The weight of a hard negative is a constant: the derivative is that with the weights of fixed similarities."""
    log_scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    q, e = loss_input.embeddings.final[:5], loss_input.embeddings.final.detach()
    batch = replace(
        loss_input, query=torch.arange(5), positives=torch.arange(5, 10)[:, None], negatives=torch.arange(10, 15)[:, None]
    )  # fmt: skip
    loss = InfoNCEHard(in_batch=False, strength=5.0)
    ours = LearnedTemperature(loss)(_at(batch, log_scale)).value
    similarity = torch.stack([(q * e[5:10]).sum(1), (q * e[10:15]).sum(1)], 1)
    weight = torch.stack([torch.zeros(5), 5.0 * similarity[:, 1]], 1).detach()
    theirs = torch.nn.functional.cross_entropy(similarity * log_scale.exp() + weight, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(value, log_scale, retain_graph=True) for value in (ours, theirs)))


def test_what_is_learned(loss_input: LossInput) -> None:
    loss = LearnedTemperature(InfoNCE(temperature=0.05), min_temperature=0.02, max_temperature=0.5, lr=0.1)
    (found,) = loss.learned.values()
    assert found == Learned(math.log(20), math.log(2), math.log(50), 0.1)
    assert Matryoshka(loss, dims=[8, 4]).learned == loss.learned
    outer = Matryoshka(loss, dims=[8])(_at(loss_input, torch.tensor(1.0, dtype=torch.float64)))
    torch.testing.assert_close(outer.logs["temperature"].item(), math.exp(-1))
    assert InfoNCE().learned == {}


@every_loss
def test_never_waits_for_the_device(loss_input: LossInput, loss: Contrastive) -> None:
    meta = {name: value.to("meta") for name, value in vars(loss_input).items() if isinstance(value, torch.Tensor)}
    log_scale = torch.empty((), device="meta", requires_grad=True)
    final = torch.empty(17, 8, device="meta", requires_grad=True)
    batch = replace(loss_input, **meta, embeddings=Embeddings(final), learned={LOG_SCALE: log_scale})
    output = LearnedTemperature(loss)(batch)
    output.value.backward()
    assert log_scale.grad is not None
    assert not output.logs["temperature"].requires_grad


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="expected a contrastive loss, got CoSENT"):
        LearnedTemperature(CoSENT())
    with pytest.raises(ConfigError, match="expected a contrastive loss, got Matryoshka"):
        LearnedTemperature(Matryoshka())
    with pytest.raises(ConfigError, match="lr must be positive, got 0"):
        LearnedTemperature(InfoNCE(), lr=0.0)
    for bounds in ((0.1, 1.0), (0.0, 1.0), (0.01, 0.04)):
        with pytest.raises(ConfigError, match="expected 0 < min_temperature <= temperature of the loss"):
            LearnedTemperature(InfoNCE(temperature=0.05), *bounds)
