"""Random draws for rows: a draw depends on the seed, the row's content and a purpose alone.

No function keeps state. So the draws of a row do not change with the order of the rows, their
sharding or the number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]  # shape (rows, 2): the 128 bits of a content hash
Words = NDArray[np.uint64]  # shape (rows,)


def content_hashes(contents: Iterable[str]) -> Hashes:
    """Hashes each text to 128 bits (blake2b), the same on every machine.

    Returns:
      Array of shape (texts, 2).
    """
    digests = b"".join(
        hashlib.blake2b(content.encode(), digest_size=16).digest() for content in contents
    )
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64).reshape(-1, 2)


def hexadecimal(hashes: Hashes) -> list[str]:
    """The hashes as ids of 32 hexadecimal digits.

    >>> hexadecimal(content_hashes(["a"])) == [hashlib.blake2b(b"a", digest_size=16).hexdigest()]
    True
    """
    digits = np.ascontiguousarray(hashes.astype("<u8")).tobytes().hex()
    return [digits[start : start + 32] for start in range(0, len(digits), 32)]


def words(hashes: Hashes, seed: int, purpose: str) -> Words:
    """Draws 64 uniform bits for each row.

    Args:
      hashes: content hashes of the rows, shape (rows, 2).
      seed: the run's seed.
      purpose: names the draw; draws for different purposes are independent.
    """
    key = hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=16).digest()
    first, second = np.frombuffer(key, dtype="<u8").astype(np.uint64)
    return _mix(_mix(hashes[:, 0] ^ first) + (hashes[:, 1] ^ second))


def below(hashes: Hashes, seed: int, purpose: str, count: int) -> NDArray[np.int64]:
    """Draws an integer in [0, count) for each row.

    `count` must be below 2**32; the relative bias is below count / 2**32.
    """
    high = words(hashes, seed, purpose) >> np.uint64(32)
    return ((high * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def coins(hashes: Hashes, seed: int, purpose: str) -> NDArray[np.bool_]:
    """Flips a fair coin for each row."""
    return (words(hashes, seed, purpose) >> np.uint64(63)).astype(np.bool_)


def uniform(hashes: Hashes, seed: int, purpose: str) -> NDArray[np.float64]:
    """Draws a number from [0, 1) for each row, with 53 bits."""
    return (words(hashes, seed, purpose) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(values: Words) -> Words:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): a bijection that mixes bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
