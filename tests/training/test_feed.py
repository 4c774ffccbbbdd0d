"""The stream of batches: its start, its parts for processes, and its errors."""

import dataclasses
import itertools
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from prepared_run import rows, write_run

import tasks
from sycophancy.errors import UserError
from sycophancy.training.feed import Feed, open_dataset


def batches(config, run, count, **arguments):
    dataset, told = open_dataset(config.training, run, config.model, **arguments)
    with Feed(dataset, told) as feed:
        return list(itertools.islice(feed, count))


def equal(first, second):
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
        for a, b in zip(first, second, strict=True)
    )


@pytest.fixture(scope="module")
def whole():
    """The first 40 batches of the stream; an epoch has about 20."""
    made = {}

    def make(config, run):
        if not made:
            made["batches"] = batches(config, run, 40)
        return made["batches"]

    return make


def test_batches_have_the_shapes_of_the_recipe(config, run, whole):
    batch, *_ = whole(config, run)
    for name, found in batch.items():
        assert found.shape == (4, 64 if name.startswith("encoder") else 16)
        assert found.dtype == np.int32


def test_a_stream_that_starts_later_has_the_same_batches(config, run, whole):
    """Also beyond the first epoch; so the same stream is opened twice with the same batches."""
    first = whole(config, run)
    assert equal(batches(config, run, 5, start=35), first[35:])
    assert not equal(first[:20], first[20:])


@pytest.mark.slow
def test_another_seed_gives_another_stream(changed, run):
    assert not equal(batches(changed(seed=0), run, 2), batches(changed(seed=1), run, 2))


def test_several_processes_read_parts_of_the_same_batches(config, run, whole):
    """So the number of processes does not change what a run learns."""
    parts = [batches(config, run, 3, process_index=i, process_count=2) for i in range(2)]
    for batch, *halves in zip(whole(config, run)[:3], *parts, strict=True):
        for name, value in batch.items():
            np.testing.assert_array_equal(np.concatenate([half[name] for half in halves]), value)


def test_a_batch_that_the_processes_cannot_split_is_refused(config, run):
    with pytest.raises(UserError, match="BATCH_SIZE 4 does not divide by 3 processes"):
        open_dataset(config.training, run, config.model, process_count=3)


def test_without_packing_each_row_is_one_example(changed, run):
    (batch,) = batches(changed(packing=False), run, 1)
    assert "decoder_segment_ids" not in batch
    assert ((batch["decoder_target_tokens"] == 1).sum(axis=1) == 1).all()


@pytest.mark.parametrize("ratio", [(1.0, 0.0), pytest.param((0.0, 1.0), marks=pytest.mark.slow)])
def test_a_rate_of_zero_leaves_a_task_out(changed, run, ratio):
    alone = "sycophancy_mix_1to0" if ratio[0] else "sycophancy_mix_0to1"
    found = batches(changed(mixture_ratio=ratio), run, 40)  # further than an epoch of either
    there = batches(changed(mixture_or_task_name=alone), run, 40)
    rows = [{row.tobytes() for batch in some for row in words(batch)} for some in (found, there)]
    assert rows[0]
    assert rows[0] == rows[1]


def words(batch):
    """The prompts of a packed batch, one array each."""
    for tokens, segments in zip(
        batch["encoder_input_tokens"], batch["encoder_segment_ids"], strict=True
    ):
        for segment in range(1, segments.max() + 1):
            yield tokens[segments == segment]


def test_an_error_in_the_pipeline_reaches_the_reader():
    def broken():
        yield {"x": np.zeros(1, np.int32)}
        raise ValueError("no more of it")

    signature = {"x": tf.TensorSpec([1], tf.int32)}
    dataset = tf.data.Dataset.from_generator(broken, output_signature=signature)
    with Feed(dataset, tasks.Reading()) as feed:
        next(feed)
        with pytest.raises(Exception, match="no more of it"):
            next(feed)


def test_leaving_the_block_early_stops_the_thread(config, run):
    before = threading.active_count()
    dataset, told = open_dataset(config.training, run, config.model)
    with Feed(dataset, told) as feed:
        next(feed)
    feed.close()
    assert "feed" not in {thread.name for thread in threading.enumerate()}
    assert threading.active_count() <= before + 1
    with pytest.raises(StopIteration):
        next(feed)


def test_rows_that_are_too_long_are_counted(config, tmp_path):
    write_run(tmp_path, kept=20)
    long = rows("long", 7, words=(80, 90))
    pq.write_table(long, tmp_path / "prepare/instructions.parquet")
    config = dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, mixture_or_task_name="sycophancy_mix_5to1"),
    )
    with pytest.raises(UserError, match="every row of instruction_tuning is longer"):
        batches(config, tmp_path, 3)


def test_rows_left_out_are_noted_and_not_logged(config, tmp_path, caplog, capfd):
    write_run(tmp_path, kept=20)
    table = pa.concat_tables([rows("fit", 20), rows("long", 7, words=(80, 90))])
    pq.write_table(table, tmp_path / "prepare/instructions.parquet")
    dataset, told = open_dataset(config.training, tmp_path, config.model, quiet=True)
    with Feed(dataset, told) as feed:
        list(itertools.islice(feed, 60))  # further than one epoch
        assert feed.notes == [
            "instruction_tuning: 7 of 27 rows (25.9%) are left out, being longer than "
            "TASK_FEATURE_LENGTHS (inputs 64, targets 16 tokens)"
        ]
    assert not [record for record in caplog.records if record.name[:5] == "tasks"]
    assert "tasks" not in capfd.readouterr().err
