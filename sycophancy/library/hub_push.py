"""Uploads a finetuned model to the Hugging Face hub, with its card and its measurements."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sycophancy.data.hub import is_transient
from sycophancy.engine.run_folder import RunFolder
from sycophancy.errors import UserError

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_FILES = ("metrics.json", "report.html", "config.gin")


def check_target(repository: str) -> str:
    """Checks what can be checked before a run, and returns the user's token.

    Raises:
      UserError: the name is none that the hub takes, or the user is not logged in.
    """
    import huggingface_hub
    from huggingface_hub import constants

    if not _REPOSITORY.fullmatch(repository) or "--" in repository or ".." in repository:
        raise UserError(f"{repository!r}: expected owner/name, as in my-team/less-sycophantic-t5")
    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, so nothing can be pushed; unset it")
    if (token := huggingface_hub.get_token()) is None:
        raise UserError("not logged in to the hub: set HF_TOKEN, or log in with `hf auth login`")
    return token


def check_access(repository: str) -> None:
    """Asks the hub, before a run, whether the user may upload to a repository's owner.

    Raises:
      UserError: as `check_target`, the hub does not answer or does not know the token, or the owner
        is neither the user nor an organisation of the user's.
    """
    from huggingface_hub import HfApi

    token = check_target(repository)
    with _in_one_line(repository):
        user = HfApi(token=token).whoami()
    owners = [user["name"], *(organisation["name"] for organisation in user.get("orgs") or ())]
    if repository.partition("/")[0] not in owners:
        raise UserError(
            f"{repository}: the token on this machine is of {owners[0]}, who can upload to "
            f"{', '.join(f'{owner}/...' for owner in owners[:5])}"
        )


def push(
    run: Path,
    repository: str,
    *,
    private: bool,
    note: Callable[[str], None],
    endpoint: str | None = None,
) -> str:
    """Uploads the finetuned weights of a run; returns the address of the model.

    Args:
      run: the run folder; it must be finetuned, evaluated and reported.
      repository: owner/name; it is made if it does not exist.
      private: make it private; a public one of that name is refused.
      note: called with lines for a person.
      endpoint: the hub's address; by default that of HF_ENDPOINT.

    Raises:
      UserError: the run is not complete, or the hub refuses or cannot be reached.
    """
    token = check_target(repository)
    for name in ("finetune/manifest.json", *_FILES):
        if not (run / name).is_file():
            raise UserError(f"{run} has no {name}; complete it first, with `sycophancy run`")
    with (
        RunFolder(run).lock(),
        tempfile.TemporaryDirectory(dir=run, prefix=".push.") as unfinished,
    ):
        folder = Path(unfinished) / "model"
        write_folder(run, folder, repository.partition("/")[2], note)
        return _upload(folder, repository, private, token, endpoint)


def write_folder(run: Path, folder: Path, name: str, note: Callable[[str], None]) -> None:
    """Writes what is uploaded: weights, tokenizer, card, metrics, report and settings.

    Raises:
      UserError: the run or its checkpoint cannot be read, or the disk is full.
    """
    from sycophancy.config.load import load_operative
    from sycophancy.model.checkpoints.convert import write
    from sycophancy.model.checkpoints.formats import open_checkpoint
    from sycophancy.report.model_card import model_card
    from sycophancy.report.run.record import read_run
    from sycophancy.stages.finetune import finetuned_model

    record = read_run(run)
    if "after" not in record.metrics:
        raise UserError(f"{run} was not evaluated after finetuning; run `sycophancy evaluate`")
    model = finetuned_model(load_operative(record.config, f"{run}/config.gin"), RunFolder(run))
    converted = write(
        open_checkpoint(model.checkpoint),
        str(folder),
        "hf",
        network=model.network,
        vocabulary=model.vocabulary,
    )
    for line in converted.notes:
        note(f"push: {line}")
    notes = []
    if not (model.is_decoder or (folder / "tokenizer_config.json").exists()):
        notes.append(
            "`transformers` has no tokenizer for this model's vocabulary, because its pieces span "
            "words: read `spiece.model` with SentencePiece, and add the end of sequence, id 1."
        )
    try:
        for file in _FILES:
            shutil.copyfile(run / file, folder / file)
        (folder / "README.md").write_text(model_card(record, name, notes), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error


def _upload(folder: Path, repository: str, private: bool, token: str, endpoint: str | None) -> str:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(endpoint=endpoint, token=token)
    with _in_one_line(repository):
        address = api.create_repo(repository, private=private, exist_ok=True)
        if private and not api.model_info(repository).private:
            raise UserError(
                f"{repository} exists and is public; give another name, or leave out --private"
            )
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Upload a finetuned model"
        )
    return str(address)


@contextlib.contextmanager
def _in_one_line(repository: str) -> Iterator[None]:
    """Turns what the hub's client raises into a UserError."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        reason = " ".join((error.server_message or str(error)).split())
        code = error.response.status_code
        raise UserError(f"the hub refused {repository} ({code}): {reason}") from error
    except UserError:
        raise
    except Exception as error:
        if not (is_transient(error) or isinstance(error, (OSError, RuntimeError, ValueError))):
            raise
        cause = error.__cause__ or error  # the uploads of single files wrap what went wrong
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise UserError(f"cannot upload to {repository}: {reason[:300]}") from error
