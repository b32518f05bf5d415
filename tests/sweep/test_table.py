"""The end of a sweep: recipes over seeds, the table, the page, the pictures, the numbers."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lightning_embed.config.choices import parsed
from lightning_embed.report import Run
from lightning_embed.report.compare import recipes as comparison_rows
from lightning_embed.report.compare.comparison import compare
from lightning_embed.report.figures.quality_vs_cost import quality
from lightning_embed.report.pages.sweep_page import headline
from lightning_embed.report.scores.model_kinds import Kind
from lightning_embed.sweep import records
from lightning_embed.sweep.records import Job
from lightning_embed.sweep.table import SweepTable
from tests.report.conftest import record, score

SEEDS, PLANS = (1, 2, 10), ("joint", "per_task")


def measured(points: float, seed: int, outside: float | None = None):
    """Every set has 60 queries around `points`; queries are the same for all, models of a seed share a shift."""
    found = {"dev": {"squad": score("retrieval", 0)}, "test": {"squad": score("retrieval", 0)}}
    if outside is not None:
        found["test"]["cosqa"] = score("retrieval", 0, in_domain=False)
    for tests in found.values():
        for name, each in tests.items():
            draw = random.Random(name)
            level = points if each["in_domain"] else outside
            each["each"] = [level / 100 + draw.uniform(-0.1, 0.1) + 0.001 * (seed % 3) for _ in range(60)]
            each["score"] = 100 * sum(each["each"]) / 60
    return found


def collect(folders: dict[Path, set[str]]) -> list:
    return comparison_rows.collect({folder: set(parsed(given)) for folder, given in folders.items()})


@pytest.fixture
def folders(tmp_path: Path) -> dict[Path, set[str]]:
    """Two plans of experts at three seeds, each with its soup."""
    found = {}
    for seed in SEEDS:
        for plan in PLANS:
            folder = tmp_path / f"grid-{plan}-{seed}"
            run, merged = Run(folder), f"soup-{plan}{seed}"
            run.add("base", measured(50, 0, outside=60), cost=0.0)
            run.add("joint" if plan == "joint" else "sts", measured(60, seed, outside=55), cost=3000.0)
            better = 62 if plan == "per_task" else 61
            run.add(merged, measured(better, seed, outside=58 if plan == "per_task" else 55), cost=6000.0)
            file = folder / "merged" / merged / "merge.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(record("soup")))
            found[folder] = {"data=toy", f"seed={seed}", f"experts={plan}", "optimizer.lr=1e-05"}
    return found


def test_jobs_that_differ_in_their_seed_alone_are_one_recipe(folders):
    recipes = {recipe.name: recipe for recipe in collect(folders)}
    assert set(recipes) == {"base", "joint joint", "joint soup", "per_task sts", "per_task soup"}
    assert [len(recipe.seeds) for recipe in recipes.values()] == [3] * 5
    compared = compare(list(recipes.values()))
    assert compared.unit == "joint trainings"
    assert {recipe.name: compared.cost(recipe) for recipe in recipes.values()} == {
        "base": 0, "joint joint": 1, "joint soup": 2, "per_task sts": 1, "per_task soup": 2,
    }  # fmt: skip
    assert recipes["per_task soup"].kind is Kind.merge
    assert list(recipes["joint soup"].seeds) == [1, 2, 10]
    scores = [seed["test"]["squad"]["score"] for seed in recipes["joint soup"].seeds.values()]
    assert scores == [Run(folder).models[f"soup-{folder.name[5:].replace('-', '')}"]["test"]["squad"]["score"]
                      for folder in folders if "joint" in folder.name]  # fmt: skip


def test_recipes_are_compared_with_joint_training(folders):
    compared = compare(collect(folders))
    assert compared.reference == "joint joint"
    assert compared.chosen.name == "per_task soup"
    assert [recipe.name for recipe in compared.recipes][:2] == ["per_task soup", "joint soup"]
    inside, outside = (compared.differences["per_task soup"][f"test {where} domain"] for where in ("in", "out of"))
    assert inside.difference == pytest.approx(2.0)
    assert outside.difference == pytest.approx(3.0)
    assert inside.outside_noise
    assert compared.means["per_task soup"]["dev"].error == pytest.approx(0.1 / 3)
    assert "joint joint" not in [name for name, found in compared.differences.items() if found]
    said = headline(compared)
    assert "<b>per_task soup</b> is best on dev" in said
    assert "Test out of domain it scores" in said
    assert "+3.00" in said
    assert "outside the noise" in said


def test_where_joint_training_wins_the_best_merge_is_told(folders):
    for folder in folders:
        if "joint" in folder.name:
            Run(folder).add("joint", measured(63, int(folder.name.rpartition("-")[2]), outside=61), cost=3000.0)
    said = headline(compare(collect(folders)))
    assert said.startswith("<b>joint joint</b> is best on dev")
    assert "The best merge, per_task soup, differs from it by: dev -1.00 [" in said
    assert "; test out of domain -3.00 [" in said
    assert said.count("outside the noise") == 3


def test_without_joint_training_the_base_is_the_reference(folders):
    alone = {folder: given for folder, given in folders.items() if "per_task" in folder.name}
    compared = compare(collect(alone))
    assert compared.reference == "base"
    assert {recipe.name for recipe in compared.recipes} == {"base", "sts", "soup"}


def _run(folders, sweep: Path, failed=(), metric="dev/mean") -> None:
    """A sweep whose jobs leave their records."""
    table = SweepTable()
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}, "optimized_metric": metric})
    table.on_multirun_start(config)
    for number, (folder, given) in enumerate(folders.items()):
        error = "ConfigError: so it is" if folder in failed else None
        records.write(sweep / "jobs" / f"{number}.json", Job(parsed(sorted(given)), str(folder), 1.0, 1.0, error))
    table.on_multirun_end(config)


def test_the_end_of_a_sweep_leaves_a_table_a_page_and_the_numbers(folders, tmp_path, capsys):
    _run(folders, tmp_path / "sweep-1f")
    text = capsys.readouterr().out
    rows = [" ".join(line.split()[:2]) for line in text.splitlines() if "±" in line and "." in line]
    assert rows[0] == "per_task soup"
    assert rows[-1].startswith("base")
    assert "±0.03*+" in text, "best, and above joint training by more than chance"
    made = {path.name for path in (tmp_path / "sweep-1f").iterdir() if path.is_file()}
    assert made == {"report.html", "results.json", "cost.svg", "cost.png"}
    assert "of queries and seeds" in " ".join(text.split())
    found = json.loads((tmp_path / "sweep-1f" / "results.json").read_text())
    assert found["reference"] == "joint joint"
    assert list(found["recipes"][0]["seeds"]) == ["1", "2", "10"]
    page = (tmp_path / "sweep-1f" / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "https://creativecommons.org", ""
    ).replace("https://matplotlib.org", "").replace("http://creativecommons.org", "")
    for shown in ("outside the noise", "per_task soup", "cost, in joint trainings", "test out of domain"):
        assert shown in page


def test_further_metrics_stand_in_the_numbers_and_on_the_page(folders, tmp_path):
    for folder, given in folders.items():
        recall = 70.0 + int(next(each for each in given if "seed" in each).partition("=")[2])
        for name, found in Run(folder).models.items():
            found["test"]["squad"]["more"] = {"recall@100": recall}
            Run(folder).add(name, found, cost=0.0)
    _run(folders, tmp_path / "sweep-1f")
    recipes = json.loads((tmp_path / "sweep-1f" / "results.json").read_text())["recipes"]
    soup = next(recipe for recipe in recipes if recipe["name"] == "per_task soup")
    assert soup["more"]["10"] == {"test": {"squad": {"recall@100": 80.0}}}
    page = (tmp_path / "sweep-1f" / "report.html").read_text()
    assert "<th>squad<br>retrieval</th><th>squad<br>recall@100</th>" in page
    assert f"{70 + sum(SEEDS) / 3:.2f}" in page


def test_the_metric_that_a_sweep_optimises_decides_the_order(folders, tmp_path, capsys):
    """Joint training is made best on sts, and stays behind on the mean."""
    for folder in folders:
        for model, scores in Run(folder).models.items():
            scores["dev"]["stsb"] = score("sts", 61 if model == "joint" else 60)
            Run(folder).add(model, scores)
    _run(folders, tmp_path / "by-mean")
    assert json.loads((tmp_path / "by-mean" / "results.json").read_text())["recipes"][0]["name"] == "per_task soup"
    capsys.readouterr()
    _run(folders, tmp_path / "by-sts", metric="dev/sts")
    assert json.loads((tmp_path / "by-sts" / "results.json").read_text())["recipes"][0]["name"] == "joint joint"
    assert "best by dev/sts first" in " ".join(capsys.readouterr().out.split())
    assert "is best by dev/sts; mean of dev " in (tmp_path / "by-sts" / "report.html").read_text()


def test_jobs_that_failed_are_told_and_not_shown(folders, tmp_path, capsys):
    failed = [folder for folder in folders if "per_task" in folder.name]
    with pytest.raises(SystemExit, match="1"):
        _run(folders, tmp_path / "sweep", failed)
    said = capsys.readouterr()
    assert " soup " in said.out
    assert "sts" not in said.out
    assert "3 of 6 jobs failed" in said.err
    assert "  experts=per_task seed=2: ConfigError: so it is" in said.err
    _run({folder: given for folder, given in folders.items() if folder not in failed}, tmp_path / "sweep")
    assert "failed" not in capsys.readouterr().err, "of another command that had this folder"


def test_failures_are_told_where_there_can_be_no_table(folders, tmp_path, capsys):
    (tmp_path / "sweep" / "report.html").mkdir(parents=True)
    with pytest.raises(SystemExit, match="1"):
        _run(folders, tmp_path / "sweep", [next(iter(folders))])
    said = capsys.readouterr().err
    assert "The table of the sweep cannot be written: IsADirectoryError" in said
    assert "1 of 6 jobs failed" in said


def test_a_sweep_of_one_seed_has_the_picture_of_both_domains(folders, tmp_path):
    _run({folder: given for folder, given in folders.items() if "seed=1" in given}, tmp_path / "sweep")
    assert (tmp_path / "sweep" / "domains.png").exists()
    assert "the noise of the queries (one seed)" in (tmp_path / "sweep" / "report.html").read_text()


def test_nothing_measured_leaves_nothing(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    _run({tmp_path / "a": {"seed=1"}}, tmp_path / "sweep")
    assert capsys.readouterr().out == ""


def test_a_job_whose_folder_is_gone_is_not_done(folders, tmp_path):
    gone = Job(parsed(["seed=1"]), str(tmp_path / "gone"), 1.0, 1.0)
    assert not gone.is_done
    assert Job(parsed(["seed=1"]), str(next(iter(folders))), 1.0, 1.0).is_done
    (tmp_path / "broken.json").write_text("{")
    assert records.read(tmp_path / "broken.json") is None


def test_of_the_same_job_under_two_configs_the_later_one_counts(tmp_path):
    for number, value in enumerate((1.0, 2.0)):
        records.write(tmp_path / "jobs" / f"{9 - number}.json", Job(parsed(["seed=1"]), ".", value, 1.0))
    assert [job.value for job in records.read_all(tmp_path)] == [2.0]


def test_what_is_drawn_is_what_was_measured(folders):
    compared = compare(collect(folders))
    figure = quality(compared)
    assert [axes.get_title() for axes in figure.axes] == ["test in domain", "test out of domain"]
    merged = next(c for c in figure.axes[1].containers if c.get_label() == "merged")
    drawn = sorted(zip(*merged.lines[0].get_data(), strict=True))
    expected = sorted(
        (2.0, compared.means[name]["test out of domain"].points) for name in ("joint soup", "per_task soup")
    )
    assert drawn == [pytest.approx(place) for place in expected]


def test_without_costs_there_is_no_picture_of_costs(folders):
    recipes = [replace(recipe, rows=None) for recipe in collect(folders)]
    assert quality(compare(recipes)) is None


def test_without_joint_training_costs_are_told_in_rows(folders):
    compared = compare(collect({folder: given for folder, given in folders.items() if "per_task" in folder.name}))
    assert compared.unit == "thousands of rows"
    assert [compared.cost(recipe) for recipe in compared.recipes] == [6, 3, 0]


def test_a_seed_that_is_not_done_yet_is_told_and_chosen_by_nothing(folders):
    """The best recipe lacks a seed: it comes last, and is compared at the seeds that both have."""
    early = {folder: given for folder, given in folders.items() if folder.name != "grid-per_task-10"}
    compared = compare(collect(early))
    assert compared.chosen.name == "joint soup"
    assert compared.differences["per_task soup"]["test in domain"].num_seeds == 2
    assert compared.differences["joint soup"]["test in domain"].num_seeds == 3


def test_means_over_different_tests_are_not_ranked(folders):
    """One folder has a test more: what lacks it has no mean there."""
    for folder in folders:
        if "joint" in folder.name:
            for model, scores in Run(folder).models.items():
                scores["test"]["nq"] = dict(scores["test"]["squad"])
                Run(folder).add(model, scores)
    compared = compare(collect(folders))
    assert "test in domain" in compared.means["joint soup"]
    assert "test in domain" not in compared.means["per_task soup"]
    assert "test out of domain" in compared.means["per_task soup"]


def test_only_what_was_measured_as_most_were_is_compared(folders):
    """A folder that was measured again in another way is left out, not mixed in."""
    first = next(iter(folders))
    Run(first, "other").add("joint", measured(99, 1, outside=99))
    recipes = {recipe.name: recipe for recipe in collect(folders)}
    assert recipes["joint joint"].seeds.keys() == {2, 10}
    Run(first).add("joint", measured(60, 1, outside=55))
    assert {recipe.name: recipe for recipe in collect(folders)}["joint joint"].seeds.keys() == {1, 2, 10}


def test_names_never_meet(folders, tmp_path):
    """Overrides whose short names are the same are written out; folders of the same overrides have their own name."""
    paths = dict(zip(folders, ("a/minilm", "b/minilm"), strict=False))
    same = {folder: {"seed=1", f"encoder={path}"} for folder, path in paths.items()}
    assert {r.name for r in collect(same)} == {
        "base", "encoder=a/minilm joint", "encoder=a/minilm soup", "encoder=b/minilm sts", "encoder=b/minilm soup",
    }  # fmt: skip
    twins = [folder for folder in folders if "joint" in folder.name][:2]
    names = {r.name for r in collect({folder: {"seed=1"} for folder in twins})}
    assert {f"{folder.name} joint" for folder in twins} < names
    for folder in twins:  # which are called alike, in folders that are not
        (tmp_path / "in" / folder.name).mkdir(parents=True)
        folder.rename(tmp_path / "in" / folder.name / "run")
    runs = [tmp_path / "in" / folder.name / "run" for folder in twins]
    assert {f"{folder.name}-run joint" for folder in twins} < {
        r.name for r in collect({run: {"seed=1"} for run in runs})
    }


def test_seeds_share_a_row_whatever_else_lies_in_their_folders(folders):
    """Two soups of other options in one folder, one in the others: the common one keeps one name."""
    first = next(folder for folder in folders if "joint" in folder.name)
    Run(first).add("soup-other", measured(61, 1, outside=55))
    file = first / "merged" / "soup-other" / "merge.json"
    file.parent.mkdir()
    file.write_text(json.dumps({**record("soup"), "options": {"weighting": "size"}}))
    soups = {
        recipe.name: list(recipe.seeds)
        for recipe in collect(folders)
        if "soup" in recipe.name and "joint" in recipe.name
    }
    assert sorted(soups.values()) == [[1], [1, 2, 10]]


def test_names_are_shown_as_they_are(folders, tmp_path, capsys):
    orders = ("[retrieval,sts]", "[sts,retrieval]")
    _run(
        {f: {"seed=1", f"experts.order={order}"} for f, order in zip(folders, orders, strict=False)}, tmp_path / "sweep"
    )
    text = capsys.readouterr().out
    assert all(f"order={order}" in text for order in orders)


def test_an_ensemble_is_never_the_best(folders):
    for folder in folders:
        Run(folder).add("ensemble of 2 encoders", measured(80, 0, outside=80), cost=3000.0)
    compared = compare(collect(folders))
    assert compared.chosen.name == "per_task soup"
    best = {recipe.name for recipe in compared.recipes if compared.is_best(recipe, "test in domain")}
    assert best == {"per_task soup"}


def test_what_was_not_measured_at_all_seeds_is_neither_best_nor_outside_the_noise(folders):
    """Its mean is over other seeds than that of the others, and of one seed the noise of seeds is not known."""
    done = {folder: given for folder, given in folders.items() if folder.name in ("grid-per_task-1", "grid-joint-1")}
    others = {folder: given for folder, given in folders.items() if "joint" in folder.name}
    compared = compare(collect(others | done))
    (soup,) = (recipe for recipe in compared.recipes if recipe.name == "per_task soup")
    assert compared.differences["per_task soup"]["test in domain"].outside_noise, "over queries alone"
    assert not compared.stands_out(soup, "test in domain")
    assert [r.name for r in compared.recipes if compared.is_best(r, "test in domain")] == ["joint soup"]
    whole = compare(collect(folders))
    assert whole.stands_out(next(r for r in whole.recipes if r.name == "per_task soup"), "test in domain")


def test_a_seed_is_a_seed_however_it_is_given(folders):
    given = {folder: {o.replace("seed=", "++seed=") for o in overrides} for folder, overrides in folders.items()}
    assert {len(recipe.seeds) for recipe in collect(given)} == {3}


def test_merges_that_look_at_other_rows_are_other_recipes(folders):
    """One probe at three seeds is one recipe, with the option of the probe in its name."""
    for folder in folders:
        for number, share in enumerate((0.5, 0.75)):
            name = f"fisher-{folder.name}{number}"
            Run(folder).add(name, measured(61, 1), cost=6000.0)
            file = folder / "merged" / name / "merge.json"
            file.parent.mkdir(parents=True)
            file.write_text(
                json.dumps({**record("fisher"), "looks_at": {"task_shares": {"sts": share}, "num_rows": 8}})
            )
    seeds = {recipe.name: len(recipe.seeds) for recipe in collect(folders) if "fisher" in recipe.name}
    names = [f"{plan} fisher probe.task_shares={{sts:{share}}}" for plan in PLANS for share in (0.5, 0.75)]
    assert seeds == dict.fromkeys(names, 3)


def test_what_hydra_writes_of_a_sweep_has_no_secrets(tmp_path: Path) -> None:
    file = tmp_path / "multirun.yaml"
    file.write_text(
        "hydra:\n  overrides:\n    task:\n    - seed=1,2\n    - +logger.csv.api_key=s3cr3t\n"
        "    - +logger.x={a:1,token:s3cr3t}\nlogger:\n  csv:\n    api_key: s3cr3t\n    other: ${oc.env:X}\n"
    )
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    SweepTable().on_job_start(config)
    assert "seed=1,2" in file.read_text()
    assert "${oc.env:X}" in file.read_text()
    assert "api_key=***" in file.read_text()
    assert "s3cr3t" not in file.read_text()
