"""Secrets are in no file, page, logger, record or message."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from lightning_embed.cli import launch
from lightning_embed.config import choices, run_yaml, secrets
from lightning_embed.config.identity import run_hash, run_identity
from lightning_embed.config.values import plain, shown_config
from lightning_embed.errors import ConfigError
from lightning_embed.logger.open import _searchable
from lightning_embed.types import Choice
from tests.run.test_train import _cfg

SECRET = "s3cr3t-value-of-this-machine"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOP", SECRET)
    monkeypatch.setenv("RATE", "0.25")
    monkeypatch.setenv("STEPS", "7")
    monkeypatch.setenv("POOLING", "cls")
    secrets._environment.values.clear()


OmegaConf.register_new_resolver("backwards", lambda text: text[::-1], replace=True)
OmegaConf.register_new_resolver("decrypted", lambda text: f"{SECRET}!" if text == SECRET else 1 / 0, replace=True)

FROM_ENVIRONMENT = {
    "as it is": ("${oc.env:TOP}", "${oc.env:TOP}"),
    "inside a text": ("https://x/${oc.env:TOP}/y", "https://x/${oc.env:TOP}/y"),
    "twice": ("${oc.env:TOP}${oc.env:TOP}", "${oc.env:TOP}${oc.env:TOP}"),
    "with a default": ("${oc.env:TOP,none}", "${oc.env:TOP,none}"),
    "as a default": ("${oc.env:ABSENT,${oc.env:TOP}}", "${oc.env:ABSENT,${oc.env:TOP}}"),
    "decoded": ("${oc.decode:${oc.env:TOP}}", "${oc.env:TOP}"),
    "by another option": ("${part.name}", "${oc.env:TOP}"),
    "by two options": ("a${part.kind}", "ab${oc.env:TOP}"),
    "in a list": (["${oc.env:TOP}"], ["${oc.env:TOP}"]),
    "in a mapping": ({"a": {"b": "${oc.env:TOP}"}}, {"a": {"b": "${oc.env:TOP}"}}),
    "by a resolver": ("${backwards:${oc.env:TOP}}", "***"),
    "by a resolver that needs it": ("${decrypted:${oc.env:TOP}}", "***"),
    "a number": ("${oc.decode:${oc.env:RATE}}", 0.25),
}


@pytest.fixture(scope="module")
def composed() -> Any:
    return _cfg("train", ["name=n", "out=o", "group=g"])


def _with(cfg: Any, value: Any, where: str) -> Any:
    cfg = copy.deepcopy(cfg)
    OmegaConf.set_struct(cfg, False)
    cfg.part = {"name": "${oc.env:TOP}", "kind": "b${part.name}"}
    cfg[where]["mine"] = {"folder": value, "_target_": "a.B"}
    return cfg


@pytest.mark.parametrize("where", ["logger", "callback", "trainer", "optimizer", "evaluation"])
@pytest.mark.parametrize("name", FROM_ENVIRONMENT)
def test_a_text_from_the_environment_stays_as_it_is_written(name: str, where: str, composed: Any) -> None:
    written, expected = FROM_ENVIRONMENT[name]
    cfg = _with(composed, written, where)
    assert name == "a number" or SECRET in json.dumps(plain(cfg, as_words=True)) or name.startswith("by a resolver")
    shown = shown_config(cfg)
    assert shown[where]["mine"]["folder"] == expected
    for text in (json.dumps(shown), json.dumps(_searchable(cfg))):
        assert SECRET not in text
        assert SECRET[::-1] not in text


def test_all_else_is_shown_as_it_is() -> None:
    cfg = _cfg("train", ["name=n", "out=o", "group=g", "encoder.max_tokens=auto", "merge=ties"])
    assert shown_config(cfg) == plain(cfg, as_words=True)


@pytest.mark.parametrize(
    "key",
    ["api_key", "apikey", "key", "HF_TOKEN", "access_token", "password", "db_passwd", "client_secret", "credentials",
     "private_key", "aws_secret_access_key", "auth-token", "API_KEY_ID", "accesskey"],
)  # fmt: skip
def test_secret_options_are_masked(key: str) -> None:
    assert secrets.without_secrets({"a": [{key: SECRET}]}) == {"a": [{key: "***"}]}
    assert secrets.without_secrets({key: 1234567}) == {key: "***"}
    for nothing in (None, "", "${oc.env:X}"):
        assert secrets.without_secrets({key: nothing}) == {key: nothing}
    for value in (SECRET, f"'{SECRET}, and more'", f'"{SECRET}"'):
        for mapping in (f"{{a: 1, {key}: {value}, b: 2}}", f"{{'{key}':{value}}}", f"x={{b: {{{key}: {value}}}}}"):
            assert SECRET not in secrets.without_secrets_in_override(mapping)
    assert (
        secrets.without_secrets_in_override(f"{{{key}: '${{oc.env:X}}', a: 1}}") == f"{{{key}: '${{oc.env:X}}', a: 1}}"
    )


@pytest.mark.parametrize(
    "key", ["max_tokens", "tokenizer", "num_tokens", "keep_best", "monkey", "turkey-query", "keyed", "tokenise", "name"]
)
def test_other_options_are_shown(key: str) -> None:
    assert secrets.without_secrets({key: "auto"}) == {key: "auto"}
    assert secrets.without_secrets_in_text(f"{key}=auto") == f"{key}=auto"
    assert secrets.without_secrets_in_override(f"{{{key}: auto}}") == f"{{{key}: auto}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"https://me:{SECRET}@host/x.jsonl", "https://***@host/x.jsonl"),
        (f"https://{SECRET}@host/x", "https://***@host/x"),
        (f"s3://a/b?token={SECRET}&c=1", "s3://a/b?token=***&c=1"),
        (f"postgresql://u:{SECRET}@h:5432/d", "postgresql://***@h:5432/d"),
        (f"a api_key={SECRET}, b", "a api_key=***, b"),
        ("expected a padding token: none is there", "expected a padding token: none is there"),
        ("logger.csv.api_key: no such option.", "logger.csv.api_key: no such option."),
        ("https://host/a@b", "https://host/a@b"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_texts_are_masked(text: str, expected: str) -> None:
    assert secrets.without_secrets_in_text(text) == expected
    assert secrets.without_secrets({"path": text}) == {"path": expected}


@pytest.mark.parametrize(
    "typed",
    [
        f"+logger.wandb.api_key={SECRET}",
        f"logger.wandb.api_key='{SECRET} b,c'",
        f"++a.HF_TOKEN={SECRET}",
        f"+logger.x={{_target_:a.B,token:{SECRET}}}",
        f"+logger.x={{_target_:a.B,deep:{{password:'{SECRET}'}}}}",
        f"data.datasets.facts.path=https://me:{SECRET}@host/x",
    ],
)
def test_choices_are_recorded_without_secrets(
    typed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, composed: Any
) -> None:
    monkeypatch.setattr(choices, "typed", lambda: choices.parsed(["seed=1", typed]))
    assert SECRET in choices.typed()[1].text, "a job's own process needs the value"
    (seed, shown) = choices.shown()
    assert seed == Choice("seed", "1", "seed=1")
    assert SECRET not in json.dumps(dataclasses.asdict(shown))
    assert shown.key == choices.typed()[1].key
    run_yaml.write(composed, tmp_path, run_identity(composed))
    assert SECRET not in (tmp_path / "run.yaml").read_text()
    assert run_yaml.recorded_choices(tmp_path) == [seed, shown]


def test_an_interpolation_is_recorded_as_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = "logger.wandb.api_key='${oc.env:TOP}'"
    monkeypatch.setattr(choices, "typed", lambda: choices.parsed([typed]))
    assert choices.shown()[0].text == typed


def test_run_yaml_is_read_back(tmp_path: Path) -> None:
    given = ["name=n", f"out={tmp_path}", "group=g", "trainer.max_steps='${oc.decode:${oc.env:STEPS}}'"]
    cfg = _cfg("train", [*given, "+callback.x={_target_:a.B,folder:'${oc.env:TOP}'}"])
    run_yaml.write(cfg, tmp_path, run_identity(cfg))
    record = run_yaml.read(tmp_path)
    assert record is not None
    assert record["config"]["callback"]["x"]["folder"] == "${oc.env:TOP}"
    assert record["config"]["trainer"]["max_steps"] == 7
    assert SECRET not in (tmp_path / "run.yaml").read_text()
    run_yaml.refuse_other_run(tmp_path, run_identity(cfg))


@pytest.mark.parametrize(
    ("option", "variable", "other"),
    [
        ("trainer.max_steps='${oc.decode:${oc.env:STEPS}}'", "STEPS", "8"),
        ("optimizer.lr='${oc.decode:${oc.env:RATE}}'", "RATE", "0.5"),
        ("encoder.pooling=${oc.env:POOLING}", "POOLING", "mean"),
        ("data.datasets.facts.batch_size=${oc.env:STEPS}", "STEPS", "8"),
    ],
)
def test_a_number_from_the_environment_makes_another_run(
    option: str, variable: str, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_hash(_cfg("train", [option]))
    assert first == run_hash(_cfg("train", [option]))
    monkeypatch.setenv(variable, other)
    assert first != run_hash(_cfg("train", [option]))


@pytest.mark.parametrize("name", ["TOP", "MY_TOKEN"])
def test_messages_do_not_print_what_the_environment_holds(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, SECRET)
    cfg = OmegaConf.create({"a": f"${{oc.env:{name}}}"})
    error = ConfigError(f"a={cfg.a}: expected float. Also https://u:{cfg.a}@host.")
    assert (
        launch._explained_failure(error) == f"ConfigError: a=${{oc.env:{name}}}: expected float. Also https://***@host."
    )
    with pytest.raises(SystemExit):
        launch._exit(error, error)
    assert SECRET not in capsys.readouterr().err


def test_messages_print_paths_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "/data/of/mine")
    path = OmegaConf.create({"a": "${oc.env:DATA}"}).a
    assert launch._explained_failure(ConfigError(f"{path}/x: no rows.")) == "ConfigError: /data/of/mine/x: no rows."
