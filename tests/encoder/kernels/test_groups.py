import pytest

from lightning_embed.encoder.kernels.groups import GROUPS
from tests.encoder.kernels.reference import OTHERS, WINDOWS, Case, assert_same


@pytest.mark.parametrize("case", [*WINDOWS, *OTHERS[:1]], ids=str)
@pytest.mark.parametrize("long", [1024, 0], ids=["own attention", "torch's"])
def test_equals_the_slow_attention(case: Case, long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_embed.encoder.kernels.groups._LONG", long)
    assert_same(case, GROUPS)
