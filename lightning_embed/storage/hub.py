"""Upload of a run's model to the Hugging Face hub: `push_to_hub=<owner/name>`.

The settings of huggingface_hub apply: HF_TOKEN, HF_ENDPOINT.
"""

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

from lightning_embed.errors import CheckpointError, ConfigError, HubError
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.publish import discard

_COMMIT = re.compile("[0-9a-f]{40}")
_WEIGHTS = ["*.safetensors", "*.safetensors.index.json"]  # of an earlier push: its shards must not mix with ours


def validate_push(name: str) -> None:
    """Refuse a push that cannot succeed; makes no request.

    Raises:
        ConfigError: a name that is no repository, or no token.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
        valid = "/" in name
    except HFValidationError:
        valid = False
    if not valid:
        raise ConfigError(
            f"push_to_hub: expected owner/name, as the hub calls a model, got {name!r}. Give such a name."
        )
    if get_token() is None:
        raise ConfigError(
            f"push_to_hub={name}: expected a token that may write to the hub, found none. "
            "Run `hf auth login`, or set HF_TOKEN."
        )


def require_one_model(name: str | None, models: Sequence[str]) -> None:
    """Refuse a push of a run without a merge that does not produce exactly one model.

    Args:
        name: push_to_hub; None: no push.
        models: names of the models that the run produces.

    Raises:
        ConfigError: no model or several ones; the message names them.
    """
    if name is not None and len(models) != 1:
        left = f"{len(models)} models ({', '.join(models)})" if models else "no model of its own"
        raise ConfigError(
            f"push_to_hub={name}: expected one model to push, and merge=none leaves {left}. "
            "Choose a merge, or push one with `hf upload`."
        )


def push(model: Path, name: str, private: bool, message: str) -> str:
    """Upload a model directory in one commit. Returns its URL.

    Args:
        model: the directory.
        name: owner/name; created if it does not exist.
        private: whether a new repository is private; an existing one keeps its visibility.
        message: commit message.

    Raises:
        HubError: the hub refused or could not be reached; the model directory stays as it is.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=model, commit_message=message, delete_patterns=_WEIGHTS, ignore_patterns=".*"
        )
    except Exception as error:  # of the network, the server or the client: the run must not be lost
        again = shlex.join(["hf", "upload", name, str(model), ".", *(["--private"] if private else [])])
        reason = " ".join(str(error).split())
        raise HubError(
            f"The model in {model} is complete, but was not pushed to {name} ({type(error).__name__}: {reason}). "
            f"Push it again: {again}"
        ) from error
    return str(address)


@cache
def commit(name: str, revision: str | None, kind: Literal["model", "dataset"]) -> str | None:
    """The commit that a revision of a hub repository stands for; asked once in a process.

    The answer of the hub is kept in the cache folder. Without a connection the last answer counts, or the commit that
    huggingface_hub has downloaded.

    Args:
        name: owner/name.
        revision: branch, tag or commit; None: main.
        kind: of the repository.

    Returns:
        40 hexadecimal digits; None: neither the hub nor a cache knows it.
    """
    from huggingface_hub import constants

    revision = revision or "main"
    if _COMMIT.fullmatch(revision):
        return revision
    folder = f"{kind}s--{name.replace('/', '--')}"
    kept = CACHE / "commits" / folder / revision
    if (answer := _asked(name, revision, kind)) is not None:
        with suppress(OSError, CheckpointError):
            discard(kept)
            write_whole(kept, answer)
        return answer
    known = (kept, Path(constants.HF_HUB_CACHE, folder, "refs", revision))
    return next((found for file in known if (found := _commit_in(file)) is not None), None)


def _commit_in(file: Path) -> str | None:
    """The commit in a file; None: there is none, or the file is broken."""
    try:
        found = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):  # of a name that no file can have, or of other bytes than UTF-8
        return None
    return found if _COMMIT.fullmatch(found) else None


def _asked(name: str, revision: str, kind: str) -> str | None:
    """The hub's answer; None: there is none, or no connection, after which this process does not ask again."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE or _unreachable:
        return None
    try:
        found: str | None = HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=10).sha
    except (HfHubHTTPError, ValueError):  # no such repository or revision: loading reports it
        return None
    except Exception:  # of the network, in the client's many layers
        _unreachable.append(name)
        return None
    return found


_unreachable: list[str] = []
