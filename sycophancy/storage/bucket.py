"""The objects of one run in a bucket: listing, copying and removing them.

Objects go through `fsspec` with the client of the provider, which is an extra of this package. What
is written only if an object has not changed goes through TensorStore, because `fsspec` has no such
writes for all providers.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import importlib.util
import os
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sycophancy.errors import UserError

# Scheme of an address -> the package with its client, and the extra that installs it.
_CLIENTS = {"gs": ("gcsfs", "gcs"), "s3": ("s3fs", "s3")}
_VERSIONS = ("generation", "ETag", "etag")  # what tells an object's versions apart, by provider
_AT_ONCE = 8  # objects that are copied at the same time


class Bucket:
    """The objects whose names begin with one address; their names are relative to it.

    Args:
        address: `gs://BUCKET/PREFIX` or `s3://BUCKET/PREFIX`.

    Attributes:
        address: the same.
        takes_checkpoints: whether Orbax writes checkpoints to this provider.

    Raises:
        UserError: the address has another form, or the provider's client is not installed.
    """

    def __init__(self, address: str) -> None:
        scheme, _, rest = address.partition("://")
        self.address = address.rstrip("/")
        bucket, _, prefix = rest.strip("/").partition("/")
        if scheme not in _CLIENTS or not bucket or not prefix or "//" in prefix:
            raise UserError(
                f"{address}: expected gs://BUCKET/FOLDER or s3://BUCKET/FOLDER, or a local folder"
            )
        package, extra = _CLIENTS[scheme]
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{address} needs the package {package}, which is not installed: "
                f"pip install -e '.[{extra}]', or name a local folder"
            )
        _share_client(package)
        self.takes_checkpoints = scheme == "gs"
        self._scheme, self._bucket, self._prefix = scheme, bucket, f"{prefix}/"

    @functools.cached_property
    def _files(self) -> Any:
        import fsspec

        with self._one_line_errors("opened"):
            return fsspec.filesystem(self._scheme, skip_instance_cache=True)

    def versions(self, inside: str = "") -> dict[str, str]:
        """Name -> version of every object, or of those in the folder `inside`."""
        home = f"{self._bucket}/{self._prefix}"
        with self._one_line_errors("read"):
            found = self._files.find(f"{home}{inside}".rstrip("/"), detail=True)
        return {
            name.removeprefix(home): _version(about)
            for name, about in found.items()
            if name.startswith(home) and not name.endswith("/")
        }

    def download(self, names: Iterable[str], folder: Path, missing: Callable[[str], None]) -> None:
        """Copies objects into a folder; each file appears whole.

        Args:
            names: of the objects.
            folder: gets each under its name.
            missing: called with the name of an object that is not there any more.
        """

        def copy(name: str) -> None:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{target.name}.unfinished")
            try:
                self._files.get_file(self._path(name), str(unfinished))
                unfinished.replace(target)
            except FileNotFoundError:
                missing(name)
            finally:
                unfinished.unlink(missing_ok=True)

        self._each(copy, names, "read")

    def upload(self, names: Iterable[str], folder: Path) -> None:
        """Copies files of a folder to objects of the same names."""
        self._each(
            lambda name: self._files.put_file(str(folder / name), self._path(name)),
            names,
            "written",
        )

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects; absent ones are no error."""

        def remove(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._path(name))

        self._each(remove, names, "written")

    def read(self, name: str) -> bytes | None:
        """The contents of a small object; None if there is none."""
        with self._one_line_errors("read"):
            try:
                contents: bytes = self._files.cat_file(self._path(name))
                return contents
            except FileNotFoundError:
                return None

    def conditional(self) -> Any:
        """The same objects as a `tensorstore.KvStore`, whose writes may depend on a version."""
        import tensorstore

        driver = {"gs": "gcs"}.get(self._scheme, self._scheme)
        spec = {"driver": driver, "bucket": self._bucket, "path": self._prefix}
        if (endpoint := os.environ.get("AWS_ENDPOINT_URL")) and driver == "s3":
            spec |= {"endpoint": endpoint, "aws_region": os.environ.get("AWS_REGION", "us-east-1")}
        with self._one_line_errors("opened"):
            return tensorstore.KvStore.open(spec).result()

    def _path(self, name: str) -> str:
        return f"{self._bucket}/{self._prefix}{name}"

    def _each(self, work: Callable[[str], None], names: Iterable[str], done: str) -> None:
        with (
            self._one_line_errors(done),
            concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as threads,
        ):
            for _ in threads.map(work, names):
                pass

    def _one_line_errors(self, done: str) -> contextlib.AbstractContextManager[None]:
        return in_one_line(f"{self.address} cannot be {done}")


def _share_client(package: str) -> None:
    """Makes epath, through which Orbax opens the bucket, take the same client in the same way.

    TensorFlow's has other credentials and knows no server but Google's. Listings must not be
    cached, because other processes change the bucket.
    """
    import fsspec

    os.environ.setdefault("EPATH_USE_TF", "false")
    for protocol in {"gcsfs": ("gs", "gcs"), "s3fs": ("s3",)}[package]:
        fsspec.config.conf.setdefault(protocol, {}).setdefault("use_listings_cache", False)


@contextlib.contextmanager
def in_one_line(failure: str) -> Iterator[None]:
    """Turns what a provider's client raises, which can be of any class, into a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{failure}: {reason}; check the name, the network and the credentials, and the same "
            "command continues"
        ) from error


def move(source: Any, place: Any) -> None:
    """Moves a folder in a bucket, object by object.

    Args:
        source: an `etils` path.
        place: the new one, which does not exist.
    """
    old = Bucket(f"{source}")
    names = list(old.versions())
    files, there = old._files, Bucket(f"{place}")
    for name in names:
        files.copy(old._path(name), there._path(name))
    old.remove(names)


def _version(about: typing.Mapping[str, Any]) -> str:
    return next((str(about[key]) for key in _VERSIONS if about.get(key)), f"{about.get('size')}")
