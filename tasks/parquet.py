"""A SeqIO data source that reads the parquet files of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import seqio
import tensorflow as tf
from etils import epath

from sycophancy.errors import UserError

from . import location, shards

BLOCK = 512  # rows passed to TensorFlow at a time


class ParquetSource(seqio.DataSource):
    """Reads string columns from one parquet file for each split.

    All rows are shuffled together, not within a buffer, and then assigned to the shards in turn. So
    any number of shards partitions the split, and their sizes differ by at most one row.

    Args:
      files: the path of each split's file in the run folder.
      columns: the string columns to read.
      stage: the stage that writes each split's file, for messages.
    """

    def __init__(
        self, files: Mapping[str, str], columns: tuple[str, ...], stage: Mapping[str, str]
    ) -> None:
        self._files = dict(files)
        self._columns = columns
        self._stage = dict(stage)
        super().__init__(splits=tuple(files), caching_permitted=False)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> list[str]:
        return [self._files[split]]

    def num_input_examples(self, split: str) -> int:
        """The number of rows, from the file's footer.

        Raises:
          UserError: the file is missing, has no rows, is not parquet, or lacks a column.
        """
        path = self._path(split)
        try:
            with path.open("rb") as file:
                footer = pq.ParquetFile(file)
                rows, schema = footer.metadata.num_rows, footer.schema_arrow
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} cannot be read as parquet: {error}") from None
        for column in self._columns:
            if column not in schema.names or not _is_string(schema.field(column).type):
                raise UserError(f"{path} has no string column {column!r} (has {schema.names})")
        if rows == 0:
            raise UserError(f"{path} has no rows; {self._stage[split]} wrote an empty split")
        return rows

    def get_dataset(
        self,
        split: str = "train",
        shuffle: bool = True,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        *,
        sequence_length: Mapping[str, int] | None = None,
        use_cached: bool = False,
        num_epochs: int | None = 1,
    ) -> tf.data.Dataset:
        """Rows of strings by column; see `seqio.DataSource.get_dataset`."""
        del sequence_length, use_cached, num_epochs
        path = self._path(split)
        order = shards.order(self.num_input_examples(split), shuffle, seed, shard_info)

        def texts() -> Iterator[dict[str, list[str]]]:
            with path.open("rb") as file:
                for batch in pq.ParquetFile(file).iter_batches(BLOCK, columns=list(self._columns)):
                    yield batch.to_pydict()

        shards.last_opened.set(shards.Opened(len(order), texts))

        def blocks() -> Iterator[dict[str, np.ndarray]]:
            with path.open("rb") as file:
                table = pq.read_table(file, columns=list(self._columns))
            for start in range(0, len(order), BLOCK):
                block = table.take(pa.array(order[start : start + BLOCK]))
                yield {
                    name: block.column(name).cast(pa.binary()).to_numpy() for name in self._columns
                }

        signature = {name: tf.TensorSpec([None], tf.string) for name in self._columns}
        rows = tf.data.Dataset.from_generator(blocks, output_signature=signature).unbatch()
        return rows.apply(tf.data.experimental.assert_cardinality(len(order)))

    def _path(self, split: str) -> epath.Path:
        path = location.data_dir() / self._files[split]
        if not path.exists():
            raise UserError(f"{path} does not exist; run `sycophancy {self._stage[split]}` first")
        return path


def _is_string(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)
