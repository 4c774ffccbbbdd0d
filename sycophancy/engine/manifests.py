"""Manifests: the record of a complete stage, with a digest of itself that shows damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sycophancy.system import json_files, paths

NAME = "manifest.json"
_FORMS: dict[str, Any] = {"counts": dict, "seconds": (int, float), "versions": dict}


def write(path: Any, value: Mapping[str, Any]) -> None:
    """Writes a JSON object and, as `seal`, the digest of everything else in it."""
    as_read = json.loads(json.dumps({name: value[name] for name in value if name != "seal"}))
    paths.write_atomically(path, json.dumps({**as_read, "seal": _seal(as_read)}, indent=1))


def read_sealed(path: Any) -> tuple[dict[str, Any] | None, str]:
    """Reads a JSON object that `write` wrote.

    An object without a seal was written by an earlier version and is not checked.

    Returns:
        The object and an empty text, or None and the reason in words that follow the file's name.
    """
    value, reason = json_files.read_object(path)
    if value is not None and value.get("seal", _seal(value)) != _seal(value):
        return None, "is not as it was written"
    return value, reason


def read(path: Any) -> tuple[dict[str, Any] | None, str]:
    """Reads a stage's manifest.

    Returns:
        The manifest and an empty text, or None and the reason in words that follow its name.
    """
    manifest, reason = read_sealed(path)
    if manifest is None:
        return None, reason
    for name, form in _FORMS.items():
        if not isinstance(manifest.get(name), form):
            return None, f"has no usable {name!r}"
    if not isinstance(manifest.get("outputs"), dict | list):
        return None, "does not list the files that the stage wrote"
    if not are_ingredients(manifest.get("ingredients")):
        return None, "does not record the settings, files and code of the stage"
    return manifest, ""


def are_ingredients(value: Any) -> bool:
    """True if a value has the form of `Ingredients.as_json()`."""
    return isinstance(value, dict) and all(
        isinstance(value.get(name), dict) for name in ("settings", "files", "code")
    )


def outputs(manifest: Mapping[str, Any]) -> dict[str, str | None]:
    """Path relative to the run -> digest, or None in a manifest of an earlier version."""
    entries = manifest["outputs"]
    return dict(entries) if isinstance(entries, dict) else dict.fromkeys(map(str, entries))


def _seal(value: Mapping[str, Any]) -> str:
    rest = {name: value[name] for name in value if name != "seal"}
    text = json.dumps(rest, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
