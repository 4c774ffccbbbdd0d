"""T5X's legacy format, written through what is public of it: msgpack and TensorStore's zarr."""

from pathlib import Path

import numpy as np
import tensorstore as ts
from flax import serialization

LARGE = 100  # elements; T5X writes what is partitioned as zarr, small arrays into the msgpack


def write(
    folder: Path, target: dict, step: int, param_states: dict, *, style: str = "file"
) -> Path:
    """Writes `folder`/checkpoint_<step>.

    Args:
      folder: gets the step's folder.
      target: nested parameters.
      step: stored as an int32 array.
      param_states: nested optimizer state.
      style: how TensorStore specs say where an array is: "file" as T5X writes locally, "gcs" as it
        writes to a bucket (with its stand-in for the bucket's name), "old" with the path beside the
        key-value store, as before TensorStore 0.1.14.
    """
    place = folder / f"checkpoint_{step}"
    place.mkdir(parents=True)

    def stored(tree, prefix):
        if isinstance(tree, dict):
            return {name: stored(value, f"{prefix}.{name}") for name, value in tree.items()}
        if tree.size < LARGE:
            return tree
        chunks = [max(1, size // 2) for size in tree.shape]
        metadata = {"shape": list(tree.shape), "chunks": chunks, "compressor": {"id": "gzip"}}
        ts.open(
            {
                "driver": "zarr",
                "dtype": str(tree.dtype),
                "kvstore": {"driver": "file", "path": f"{place / prefix}/"},
                "metadata": metadata,
            },
            create=True,
        ).result().write(tree).result()
        spec = {"driver": "zarr", "dtype": str(tree.dtype), "metadata": metadata}
        if style == "file":
            return {**spec, "kvstore": {"driver": "file", "path": prefix}}
        bucket = {"driver": "gcs", "bucket": "t5x-dummy-bucket"}
        if style == "gcs":
            return {**spec, "kvstore": {**bucket, "path": f"{prefix}/"}}
        return {**spec, "kvstore": bucket, "path": prefix}

    optimizer = {
        "target": stored(target, "target"),
        "state": {
            "step": np.asarray(step, np.int32),
            "param_states": stored(param_states, "state.param_states"),
        },
    }
    (place / "checkpoint").write_bytes(
        serialization.msgpack_serialize({"version": 3, "optimizer": optimizer})
    )
    return place
