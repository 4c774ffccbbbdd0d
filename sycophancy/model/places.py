"""Names of files and folders that are not local yet: `hf:owner/name` is fetched once."""

from __future__ import annotations

import re

from etils import epath

from sycophancy.errors import UserError
from sycophancy.terminal import unheard

ANSWER_SECONDS = 20.0  # for a bucket
_HUB = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@]+?))?(?P<file>/[\w.-]+\.model)?"
)
_WANTED = [
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "spiece.model",
]


def is_hub(name: str) -> bool:
    """Whether `name` lies on the Hugging Face hub."""
    return name.startswith("hf:")


def local(name: str) -> str:
    """A path that can be opened: of the hub's copy on this machine, else `name` itself.

    Args:
      name: `hf:owner/name`, `hf:owner/name@revision`, one of them with `/file.model` behind it, or
        a path or address, which is returned as it is.

    Raises:
      UserError: it cannot be fetched.
    """
    if not is_hub(name):
        return name
    match = _HUB.fullmatch(name)
    if match is None:
        raise UserError(f"{name}: expected hf:owner/name, or hf:owner/name@revision")
    repo, revision, file = match["repo"], match["revision"], match["file"]
    return _fetch(name, repo, revision, file.removeprefix("/") if file else None)


def is_fetched(name: str) -> bool:
    """Whether a model of the hub lies on this machine, so that `local` needs no network."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, revision = name.removeprefix("hf:").partition("@")
    try:
        huggingface_hub.snapshot_download(
            repo, revision=revision or None, allow_patterns=_WANTED, local_files_only=True
        )
    except (LocalEntryNotFoundError, HfHubHTTPError):
        return False
    return True


def exists(path: epath.Path) -> bool:
    """Whether there is something.

    Raises:
      UserError: the bucket it would lie in cannot be reached.
    """
    from sycophancy.data import hub

    try:
        if "://" not in str(path):
            return path.exists()
        with unheard():  # TensorFlow, if the path's library chooses it
            return hub.within(ANSWER_SECONDS, path.exists)
    except Exception as error:  # every client of every bucket has errors of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} cannot be reached: {reason}; check the name, the network and the credentials "
            "(gcloud auth application-default login)"
        ) from None


def _fetch(name: str, repo: str, revision: str | None, file: str | None) -> str:
    import huggingface_hub

    from sycophancy.data import hub

    def fetch() -> str:
        if file:
            return huggingface_hub.hf_hub_download(repo, file, revision=revision)
        return huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=_WANTED)

    try:
        return hub.load_model(repo, revision, fetch)
    except Exception as error:
        raise UserError(
            f"{name} could not be fetched from the hub{hub.offline_note()}: {hub.one_line(error)}; "
            "name a local folder instead, as in --model checkpoints/flan-t5-xl"
        ) from None
