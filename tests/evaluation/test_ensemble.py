"""Several encoders as one."""

import pytest
import torch

from lightning_embed.evaluation import Ensemble, Local, TextEncoder
from lightning_embed.types import EvalSet, StsSet, Task

NORTH, EAST = {"a": 0.0, "b": 30.0, "c": 80.0, "d": 10.0}, {"a": 90.0, "b": 70.0, "c": 85.0, "d": 0.0}


def test_the_inner_product_is_the_mean_cosine(angles):
    ensemble = Ensemble([angles(NORTH), angles(EAST), angles(EAST)])
    assert isinstance(ensemble, TextEncoder)
    texts = list(NORTH)
    embeddings = ensemble.encode(texts, prompt=None)
    cosines = [member.encode(texts, prompt=None) for member in ensemble.members]
    torch.testing.assert_close(embeddings @ embeddings.T, sum(x @ x.T for x in cosines) / 3)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))


def test_members_of_other_dimensions_and_lengths_count_alike(angles):
    class Longer(type(angles(NORTH))):
        def encode(self, texts, *, prompt, max_length=None):
            return torch.cat([5 * super().encode(texts, prompt=prompt), torch.zeros(len(texts), 3)], dim=1)

    plain, longer = Ensemble([angles(NORTH), angles(EAST)]), Ensemble([angles(NORTH), Longer(EAST)])
    one, other = (ensemble.encode(list(NORTH), prompt=None) for ensemble in (plain, longer))
    torch.testing.assert_close(one @ one.T, other @ other.T)


def test_every_member_has_its_own_prompts(angles):
    class Other(type(angles(NORTH))):
        def prompt_for(self, task, role, dataset):
            return f'"{role}": '

    members = [angles(NORTH), Other(EAST)]
    pairs = EvalSet("pairs", Task.sts, "test", True, StsSet(["a", "b", "c"], ["d", "a", "b"], [3.0, 2.0, 1.0]))
    score = Local()(Ensemble(members), [pairs])["test"]["pairs"]["score"]
    assert -100 <= score <= 100
    assert set(members[0].seen) == {"pairs sts query"}
    assert set(members[1].seen) == {'"query": '}


def test_copies_score_as_one(encoder, eval_sets, measured):
    three = Local()(Ensemble([encoder] * 3), eval_sets)
    for split, tests in measured.items():
        for name, score in tests.items():
            assert three[split][name]["score"] == pytest.approx(score["score"], abs=1e-3), name
