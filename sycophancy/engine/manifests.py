"""Manifests: what a complete stage says of itself, with a digest that shows damage."""

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
    """A JSON object that `write` wrote, or None and why it cannot be used.

    One without a seal is an earlier version's, and is taken as it is.
    """
    found, reason = json_files.read_object(path)
    if found is not None and found.get("seal", _seal(found)) != _seal(found):
        return None, "is not as it was written"
    return found, reason


def read(path: Any) -> tuple[dict[str, Any] | None, str]:
    """A stage's manifest, or None and why it cannot be used, in words that follow its name."""
    found, reason = read_sealed(path)
    if found is None:
        return None, reason
    for name, form in _FORMS.items():
        if not isinstance(found.get(name), form):
            return None, f"says nothing usable of {name!r}"
    if not isinstance(found.get("outputs"), dict | list):
        return None, "does not say what the stage wrote"
    if not are_ingredients(found.get("ingredients")):
        return None, "does not say what the stage was made of"
    return found, ""


def are_ingredients(value: Any) -> bool:
    """Whether a value has the form of `Ingredients.as_json()`."""
    return isinstance(value, dict) and all(
        isinstance(value.get(name), dict) for name in ("settings", "files", "code")
    )


def outputs(manifest: Mapping[str, Any]) -> dict[str, str | None]:
    """Path relative to the run -> digest; a manifest of an earlier version has paths alone."""
    said = manifest["outputs"]
    return dict(said) if isinstance(said, dict) else dict.fromkeys(map(str, said))


def _seal(value: Mapping[str, Any]) -> str:
    rest = {name: value[name] for name in value if name != "seal"}
    text = json.dumps(rest, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
