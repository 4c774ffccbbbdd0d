"""The tokenizer of a decoder-only checkpoint: its `tokenizer.json`, with the ids of `transformers`.

The library `tokenizers` reads tokenizer.json and computes the ids. The files beside it add special
tokens: tokenizer_config.json and special_tokens_map.json name them, and generation_config.json and
config.json have the ids of the tokens that end a text.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from etils import epath
from tokenizers import AddedToken, decoders, pre_tokenizers

from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.decoders import TOKENIZER, check_tokenizer
from sycophancy.system import json_files

CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"  # where old folders have what is now in CONFIG
GENERATION_CONFIG, MODEL_CONFIG = "generation_config.json", "config.json"

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

Tokens = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Texts to token ids and back; the counterpart of `Vocabulary` for decoder-only models.

    Attributes:
      path: the folder, for messages.
      special_tokens: the texts of the tokens that have a role, by role, such as `bos_token`; chat
        templates use them.
      start: the ids that belong before every text: the start of sequence, or none.
      bos_id: the id of the start of sequence; None if the tokenizer has none.
      eos_id: the id of the end of sequence.
      end_ids: the ids after which a text is complete: the end of sequence, and often one that ends
        a turn of a chat.
      pad_id: an id to fill rows with: the tokenizer's own for padding, or else `eos_id`. It may
        occur in texts, as may 0, so padding is told by lengths, masks or segments, never by its id.
      size: the number of ids; the network's embedding may have more rows.
    """

    path: str
    special_tokens: Mapping[str, str]
    start: Tokens
    bos_id: int | None
    eos_id: int
    end_ids: Tokens
    pad_id: int
    size: int
    _backend: tokenizers.Tokenizer = dataclasses.field(repr=False)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without start and end of sequence.

        The texts of special tokens, such as "<s>", become these tokens.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once."""
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of token ids.

        Args:
          ids: the ids.
          special: keep the texts of special tokens.
        """
        text: str = self._backend.decode([int(i) for i in ids], skip_special_tokens=not special)
        return text

    def piece(self, token: int) -> str | None:
        """What the vocabulary has for an id; None if it has nothing."""
        piece: str | None = self._backend.id_to_token(token)
        return piece

    def is_special(self, token: int) -> bool:
        """Whether an id stands for a special token, which `decode` leaves out."""
        return token in self._special_ids

    @functools.cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self._backend.get_added_tokens_decoder()
        return frozenset(token for token, entry in added.items() if entry.special)


def load_tokenizer(name: str) -> Tokenizer:
    """The tokenizer of a model.

    Args:
      name: a local folder or `hf:owner/name`.

    Raises:
      UserError: the folder has no tokenizer.json, a file is damaged, or no file says what ends a
        text.
    """
    folder = Path(locations.local(name, weights=False))
    check_tokenizer(folder)
    names = (TOKENIZER, CONFIG, SPECIAL_TOKENS, GENERATION_CONFIG, MODEL_CONFIG)
    paths = [Path(locations.inside(folder, file)) for file in names]
    # The tokenizer of Gemma takes seconds to load, and several stages of a run need it.
    return _load(folder, tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths))


def read_config(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json says; of an old folder also what special_tokens_map.json says.

    Raises:
      UserError: a file is damaged.
    """
    config = _read(folder, CONFIG)
    return config if "added_tokens_decoder" in config else config | _read(folder, SPECIAL_TOKENS)


@functools.lru_cache(maxsize=4)
def _load(folder: Path, stamps: tuple[int, ...]) -> Tokenizer:
    """The tokenizer of a folder; `stamps` are the times at which its files changed."""
    config = read_config(folder)
    backend = _backend(folder, config)
    special = _special_tokens(config)
    ends, eos = _ends(folder, backend, special)
    bos = backend.token_to_id(special["bos_token"]) if "bos_token" in special else None
    plain = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a").ids
    before = next(
        (n for n in range(len(framed)) if framed[n : n + len(plain)] == plain), len(framed)
    )
    added = backend.get_added_tokens_decoder()
    pad = backend.token_to_id(special["pad_token"]) if "pad_token" in special else None
    return Tokenizer(
        path=str(folder),
        special_tokens=special,
        start=tuple(framed[:before]),
        bos_id=bos,
        eos_id=eos,
        end_ids=ends,
        pad_id=eos if pad is None else pad,
        size=max(backend.get_vocab_size(), *(token + 1 for token in added), 1),
        _backend=backend,
    )


def _backend(folder: Path, config: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """What tokenizer.json describes, with the added tokens and changes that `transformers` makes.

    Raises:
      UserError: tokenizer.json is damaged.
    """
    path = folder / TOKENIZER
    try:
        backend = tokenizers.Tokenizer.from_buffer(locations.read_small(epath.Path(path)))
    except UserError:
        raise
    except Exception as error:  # the library raises Exception itself
        raise UserError(
            f"{path} is not a tokenizer that can be read ({_one_line(error)}); copy it again"
        ) from None
    backend.no_truncation()
    backend.no_padding()
    _rebuild_metaspace(backend, config)
    known = {repr(token) for token in backend.get_added_tokens_decoder().values()}
    listed = _listed_tokens(folder, config)
    backend.add_tokens([token for token in listed if repr(token) not in known])
    texts = {token.content for token in backend.get_added_tokens_decoder().values()}
    backend.add_special_tokens(
        [
            AddedToken(text, special=True, normalized=False)
            for text in dict.fromkeys([*_special_tokens(config).values(), *_extra_tokens(config)])
            if text not in texts
        ]
    )
    return backend


def _listed_tokens(folder: Path, config: Mapping[str, Any]) -> list[AddedToken]:
    """The tokens of `added_tokens_decoder`, in the order of their ids.

    Raises:
      UserError: the entry is damaged.
    """
    try:
        entries = config.get("added_tokens_decoder", {}).items()
        return [
            AddedToken(entry["content"], **{name: entry[name] for name in _FLAGS if name in entry})
            for _, entry in sorted(entries, key=lambda item: int(item[0]))
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG}: added_tokens_decoder cannot be read "
            f"({type(error).__name__}: {_one_line(error)}); copy the file again"
        ) from None


def _rebuild_metaspace(backend: tokenizers.Tokenizer, config: Mapping[str, Any]) -> None:
    """Treats spaces as transformers' class for Llama 2 does, whatever tokenizer.json says.

    That class ignores the normalizer and the pre-tokenizer of tokenizer.json, which in most folders
    put a space after every special token, and puts one only before the text.
    """
    name = str(config.get("tokenizer_class", "")).removesuffix("Fast")
    byte_level = any("ByteLevel" in repr(part) for part in (backend.pre_tokenizer, backend.decoder))
    if name != "LlamaTokenizer" or byte_level:
        return
    spaced = config.get("add_prefix_space") in (None, True)
    scheme = ("always" if config.get("legacy") else "first") if spaced else "never"
    backend.normalizer = None
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    parts = [decoders.Replace("\N{LOWER ONE EIGHTH BLOCK}", " "), decoders.ByteFallback()]
    stripped = [decoders.Strip(content=" ", left=1)] if spaced else []
    backend.decoder = decoders.Sequence([*parts, decoders.Fuse(), *stripped])


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens with a role: the entries called `bos_token`, `eos_token` and the like."""
    entries = ((name, _text(value)) for name, value in config.items() if name.endswith("_token"))
    return {name: text for name, text in entries if text is not None}


def _extra_tokens(config: Mapping[str, Any]) -> list[str]:
    """The special tokens without a role."""
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
    texts = map(_text, extra.values() if isinstance(extra, dict) else extra)
    return [text for text in texts if text is not None]


def _text(token: Any) -> str | None:
    """The text of a token, which files write as it is or as an object with `content`."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and text else None


def _ends(
    folder: Path, backend: tokenizers.Tokenizer, special: Mapping[str, str]
) -> tuple[Tokens, int]:
    """The ids that end a text, and the end of sequence among them.

    Raises:
      UserError: no file names an id of the vocabulary.
    """
    named = backend.token_to_id(special["eos_token"]) if "eos_token" in special else None
    ends: list[int] = [] if named is None else [named]
    for file in (GENERATION_CONFIG, MODEL_CONFIG):
        given = _read(folder, file).get("eos_token_id")
        found = given if isinstance(given, list) else [given]
        ends += [
            i for i in found if type(i) is int and i >= 0 and backend.id_to_token(i) is not None
        ]
        if ends and given is not None:
            break  # generation_config.json overrides what config.json says
    if not ends:
        raise UserError(
            f"{folder}: no file says which token ends a text; set eos_token in {CONFIG}"
        )
    return tuple(dict.fromkeys(ends)), ends[0]


def _read(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of the folder; an empty object if it is absent.

    Raises:
      UserError: the file is damaged.
    """
    path = locations.inside(folder, name)
    return json_files.require_object(path, "copy it again") if path.exists() else {}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
