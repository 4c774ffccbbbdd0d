"""Finds the files of a model: local, in a bucket, or on the Hugging Face hub (`hf:owner/name`)."""

from __future__ import annotations

import re
from pathlib import Path

from etils import epath

from sycophancy.errors import UserError
from sycophancy.system.paths import is_address
from sycophancy.system.terminal import unheard

ANSWER_SECONDS = 20.0  # the longest wait for a bucket
_HUB = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^@]+?))?(?P<file>/[\w.-]+\.model)?"
)
# Files that decide how a decoder-only model splits, frames and ends texts.
TOKENIZER_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_SMALL_FILES = ["config.json", "spiece.model", *TOKENIZER_FILES]
_FILES = [*_SMALL_FILES, "*.safetensors", "*.safetensors.index.json"]


def is_hub(name: str) -> bool:
    """Whether `name` is a model or file on the Hugging Face hub."""
    return name.startswith("hf:")


def local(name: str, *, weights: bool = True) -> str:
    """The path or address to open for `name`; downloads from the hub once.

    Args:
      name: `hf:owner/name` or `hf:owner/name@revision`, optionally followed by `/file.model`; or a
        path or address, which is returned unchanged.
      weights: False downloads only the files that tell what the model is: its shape and tokenizer.

    Raises:
      UserError: the name is malformed, or it cannot be downloaded.
    """
    if not is_hub(name):
        return name
    match = _HUB.fullmatch(name)
    if match is None:
        raise UserError(f"{name}: expected hf:owner/name, or hf:owner/name@revision")
    repo, revision, file = match["repo"], match["revision"], match["file"]
    return _fetch(name, repo, revision, file.removeprefix("/") if file else None, weights)


def is_fetched(name: str) -> bool:
    """Whether this machine has a copy of a model of the hub, so that `local` needs no network."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, revision = name.removeprefix("hf:").partition("@")
    try:
        huggingface_hub.snapshot_download(
            repo, revision=revision or None, allow_patterns=_FILES, local_files_only=True
        )
    except (LocalEntryNotFoundError, HfHubHTTPError):
        return False
    return True


def exists(path: epath.Path) -> bool:
    """Whether a file or folder exists.

    Raises:
      UserError: it would be in a bucket that cannot be reached.
    """
    from sycophancy.data import hub

    try:
        if not is_address(path):
            return path.exists()
        with unheard():  # the path's library may use TensorFlow
            return hub.within(ANSWER_SECONDS, path.exists)
    except Exception as error:  # each bucket's client raises other errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} cannot be reached: {reason}; check the name, the network and the credentials "
            "(gcloud auth application-default login)"
        ) from None


def check_name(path: epath.PathLike) -> None:
    """Refuses a local path that TensorStore cannot write to.

    Raises:
      UserError: the path has a backslash, which TensorStore treats as a slash, or is not UTF-8.
    """
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name!r} is not UTF-8; name another folder for checkpoints") from None
    if "\\" in name and not is_address(name):
        raise UserError(f"{name} has a backslash in it; name another folder for checkpoints")


_POINTER = b"version https://git-lfs.github.com/spec/"
_SMALL = 64 * 2**20  # bytes; the index of a thousand files is smaller


def inside(folder: epath.PathLike, name: str) -> epath.Path:
    """The path of a file in a model's folder, if it does not lead out of the folder.

    The hub's cache keeps a model's files in `blobs` beside `snapshots`, and its folders have links
    to them, which are allowed.

    Raises:
      UserError: `name` is not a plain file name, the file is a link to another place, or it is not
        a regular file.
    """
    if (
        name in ("", ".", "..")
        or re.search(r"[/\\\0]", name)
        or len(name.encode("utf-8", "replace")) > 255
    ):
        raise UserError(f"{folder}: {name[:300]!r} is not the name of a file in this folder")
    path = epath.Path(folder) / name
    if is_address(path) or not (path.exists() or Path(path).is_symlink()):
        return path
    try:
        home, real = Path(folder).resolve(), Path(path).resolve(strict=True)
    except (OSError, RuntimeError):  # a broken link, or a link to itself
        raise UserError(f"{path} is a link that leads nowhere; copy the file again") from None
    blobs = home.parent.parent / "blobs" if home.parent.name == "snapshots" else home
    if real.parent not in (home, blobs):
        raise UserError(f"{path} is a link to {real}; copy the file into the folder")
    if not real.is_file():
        raise UserError(f"{path} is not a file; copy it again")
    return path


def refuse_pointer(path: epath.PathLike, start: bytes) -> None:
    """Refuses a file that Git LFS left in place of the real one.

    Args:
      path: the file, for the message.
      start: the first bytes of the file.

    Raises:
      UserError: the file is such a pointer.
    """
    if start.startswith(_POINTER):
        raise UserError(
            f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull` in its folder"
        )


def read_small(path: epath.Path) -> bytes:
    """Reads a file of at most 64 MiB.

    Raises:
      FileNotFoundError: the file does not exist.
      UserError: the file is larger, or cannot be read.
    """
    if path.exists() and not path.is_dir() and not is_address(path) and not Path(path).is_file():
        raise UserError(f"{path} is not a file; name another")  # reading a pipe would not end
    try:
        with path.open("rb") as file:
            data: bytes = file.read(_SMALL + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    refuse_pointer(path, data)
    if len(data) > _SMALL:
        raise UserError(f"{path} is larger than {_SMALL >> 20} MiB; it is another file")
    return data


def _fetch(name: str, repo: str, revision: str | None, file: str | None, weights: bool) -> str:
    import huggingface_hub

    from sycophancy.data import hub

    def fetch() -> str:
        if file:
            return huggingface_hub.hf_hub_download(repo, file, revision=revision)
        files = _FILES if weights else _SMALL_FILES
        return huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=files)

    try:
        return hub.load_model(repo, revision, fetch)
    except Exception as error:
        raise UserError(
            f"{name} could not be fetched from the hub{hub.offline_note()}: {hub.one_line(error)}; "
            "name a local folder instead, as in --model checkpoints/flan-t5-xl"
        ) from None
