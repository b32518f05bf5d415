"""Pushing, to a small hub that speaks HTTP: what is sent, and what is said when nobody answers."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from lightning_embed.config.compose import check_command
from lightning_embed.errors import ConfigError, HubError
from lightning_embed.storage import hub


class _Hub(BaseHTTPRequestHandler):
    """Knows one repository, in which an earlier push left a shard."""

    def do_GET(self) -> None:
        shard = {"type": "file", "path": "model-00001-of-00002.safetensors", "size": 1, "oid": "0"}
        self._answer([shard] if "/tree/" in self.path else {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, self.headers["Authorization"], body))  # type: ignore[attr-defined]
        if self.path == "/api/repos/create":
            self._answer({"url": f"{self.server.address}/team/model"})  # type: ignore[attr-defined]
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._answer({"files": files})
        elif "/commit/" in self.path:
            self._answer({"commitUrl": f"{self.server.address}/team/model/commit/1", "commitOid": "1", "success": True})  # type: ignore[attr-defined]
        else:
            self._answer({"errors": [], "warnings": []})

    def _answer(self, content: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def _nothing_in_the_users_cache(tmp_path: Path, monkeypatch) -> None:
    """The client keeps one answer of the hub there."""
    monkeypatch.setattr("huggingface_hub.constants.AGENT_HARNESSES_PATH", str(tmp_path / "kept.json"), raising=False)


@pytest.fixture
def server(monkeypatch) -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as http:
        http.requests = []  # type: ignore[attr-defined]
        http.address = f"http://127.0.0.1:{http.server_port}"  # type: ignore[attr-defined]
        Thread(target=http.serve_forever, daemon=True).start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", http.address)  # type: ignore[attr-defined]
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield http
        http.shutdown()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "1_Pooling").mkdir(parents=True)
    for name in ("README.md", "model.safetensors", "1_Pooling/config.json", ".README.md.17"):
        (folder / name).write_text(f"content of {name}")
    return folder


def _commit(server: Any) -> list[dict[str, Any]]:
    (body,) = (body for path, _, body in server.requests if "/commit/" in path)
    return [json.loads(line) for line in body.splitlines()]


@pytest.mark.parametrize("private", [True, False])
def test_what_is_sent(server: Any, model: Path, private: bool) -> None:
    assert hub.push(model, "team/model", private, "soup of run 1a2b3c4d") == f"{server.address}/team/model"
    path, token, body = server.requests[0]
    assert (path, token) == ("/api/repos/create", "Bearer hf_secret")
    created = json.loads(body)
    assert (created["organization"], created["name"]) == ("team", "model")
    seen = (
        created.get("visibility") or {True: "private", False: "public"}[created["private"]]
    )  # newer and older clients
    assert seen == ("private" if private else "public")
    header, *changes = _commit(server)
    assert header["value"]["summary"] == "soup of run 1a2b3c4d"
    sent = {c["value"]["path"]: base64.b64decode(c["value"]["content"]).decode() for c in changes if c["key"] == "file"}
    assert sent == {n: f"content of {n}" for n in ("README.md", "model.safetensors", "1_Pooling/config.json")}
    deleted = [c["value"]["path"] for c in changes if c["key"] == "deletedFile"]
    assert deleted == ["model-00001-of-00002.safetensors"], "the shard of an earlier push would be read beside ours"


def test_nobody_answers(model: Path, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        HubError, match=r"/model is complete, but was not pushed .* again: hf upload team/x .*/model . --private"
    ):
        hub.push(model, "team/x", True, "soup")


@pytest.mark.parametrize("name", ["model", "a/b/c", "team/mo del", "/model", "team/"])
def test_a_name_that_is_none(name: str, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(ConfigError, match=r"push_to_hub: expected owner/name"):
        hub.validate_push(name)


def test_refused_before_anything_starts(monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ConfigError, match=r"push_to_hub=team/model: expected a token .*hf auth login"):
        check_command("train", ["push_to_hub=team/model"])
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_secret")
    check_command("train", ["push_to_hub=team/model"])
    with pytest.raises(ConfigError, match=r"push_to_hub=team/model with experts.only=sts"):
        check_command("train", ["push_to_hub=team/model", "experts.only=sts"])
    with pytest.raises(ConfigError, match="in a sweep: every job would push to it"):
        check_command("train", ["push_to_hub=team/model", "merge=soup,slerp"], multirun=True)


@pytest.mark.parametrize("models", [[], ["retrieval", "sts"]])
def test_no_one_model(models: list[str]) -> None:
    hub.require_one_model(None, models)
    hub.require_one_model("team/model", ["joint"])
    with pytest.raises(ConfigError, match="expected one model to push, and merge=none leaves"):
        hub.require_one_model("team/model", models)
