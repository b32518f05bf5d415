"""Names that can name a folder, and names from elsewhere."""

import pytest

from lightning_embed.data.options import DataOptions, DatasetOptions
from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert
from lightning_embed.experts.base import ExpertPlan
from lightning_embed.storage.names import check_name, label, visible, visible_in
from lightning_embed.types import Task
from tests.experts.toy import NoMeasure

ALLOWED = ["a", "stsb", "STS-B", "ms_marco", "v1.5", "c++", "检索", "データ", "поиск", "हिन्दी", "한국어", "ελληνικά", "é", "e\u0301",
           "7", "_x", "x" * 80, "क्ष", "con"]  # fmt: skip

REFUSED = ["", " ", "a ", " a", "a b", "a/b", "../esc", "..", ".", ".hidden", "-rf", "+x", "a.", "a\\b", "C:\\x", "a$b^{$",
           "a\nb", "a\0b", "\x1b[31mred", "\x07", "\x7f", "[/red]", "[bold]", "a:b", "a*", "a?b", "a|b", "a'b", 'a"b',
           "<script>", "a&b", "a,b", "a=b", "{a}", "${a}", "#a", "a%20", "😀", "\u202eabc", "a\u200bb", "\udcff", "a\u2028b",
           "x" * 81, "检" * 60, "a@b", "~", "a;b", "`a`", "a!"]  # fmt: skip


@pytest.mark.parametrize("name", ALLOWED)
def test_letters_of_any_script_are_allowed(name: str) -> None:
    check_name("name", name)
    assert visible(name) == name == label(name)


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_name_is_shown_without_effect(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_name("name", name)
    message = str(caught.value)
    assert message.startswith("name: expected a name of letters and digits of any script, _ - . and +")
    assert message.isprintable()
    assert message.encode()
    assert len(message) < 300


@pytest.mark.parametrize("where", ["dataset", "group"])
@pytest.mark.parametrize("name", ["a/b", "../esc", "a$b^{$", "\x1b[31m", "[red]", "", "base", "joint"])
def test_datasets_and_groups(name: str, where: str) -> None:
    options = DatasetOptions(Task.sts, path="x", group=name if where == "group" else None)
    with pytest.raises(ConfigError, match=r"data\.datasets"):
        DataOptions({name if where == "dataset" else "a": options}, root=None)


def test_all_bad_names_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        DataOptions({name: DatasetOptions(Task.sts, path="x", group="g/h") for name in ("a/b", "ok", "..")}, root=None)
    assert [part in str(caught.value) for part in ("'a/b'", "'..'", "'g/h'", "'ok'")] == [True, True, True, False]


@pytest.mark.parametrize("name", ["a/b", "..", "a b", "\x1b[0m"])
def test_a_plan_may_not_call_an_expert_so(name: str) -> None:
    class Plan(ExpertPlan):
        def experts(self, datasets, seed, measure):
            return [Expert(name, {})]

    with pytest.raises(ConfigError, match="experts: expected a name"):
        Plan().chosen({}, 0, NoMeasure())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb", r"a\nb"), ("\x1b[31mred", r"\x1b[31mred"), ("a\0", r"a\x00"), ("\udcff", r"\udcff"), ("\u202ea", r"\u202ea"),
        ("a\u200bb", r"a\u200bb"), ("\x9b31m", r"\x9b31m"), ("😀 [b] $x$ <i>", "😀 [b] $x$ <i>"), ("क्\u200dष", "क्\u200dष"),
    ],
)  # fmt: skip
def test_a_foreign_name_is_visible(name: str, shown: str) -> None:
    assert visible(name) == shown == label(name)
    assert visible_in({name: [name, {"a": name}, 1, None]}) == {shown: [shown, {"a": shown}, 1, None]}


def test_a_long_foreign_name_is_cut_and_stays_apart() -> None:
    names = {label("检" * 85 + end) for end in "ab"}
    assert len(names) == 2
    assert all(len(name.encode()) <= 160 for name in names)
