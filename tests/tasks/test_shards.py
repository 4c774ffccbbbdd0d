"""Any number of shards partitions the rows of a task or mixture, with a seed or without."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import seqio
from hypothesis import given, settings
from hypothesis import strategies as st
from prepared_run import rows, write_run

import tasks
from sycophancy.data.prepare import evaluation_file
from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, write_items
from tasks import shards

LENGTHS = {"inputs": 64, "targets": 8}
SEEDS = st.none() | st.integers(0, 2**32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Seven kept rows and three instructions that fit, and some of each that do not."""
    folder = write_run(tmp_path_factory.mktemp("run"))
    for name, fitting in (("filter/kept", 7), ("prepare/instructions", 3)):
        table = pa.concat_tables([rows(name, fitting), rows("long", 2, words=(80, 90))])
        pq.write_table(table, folder / f"{name}.parquet")
    items = [
        Item(f"i{n}", "addition", "neutral", f"p{n}", f"red {'cat ' * n}", ("(A)", "(B)"), answer=0)
        for n in range(5)
    ]
    for name in ("addition", "addition_true"):
        write_items(evaluation_file(folder / "prepare", name), items)
    return folder


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 50), st.integers(1, 60), SEEDS, st.booleans())
def test_every_row_is_in_one_shard(count, number, seed, shuffle):
    dealt = [
        shards.order(count, shuffle, seed, seqio.ShardInfo(i, number)).tolist()
        for i in range(number)
    ]
    assert sorted(row for shard in dealt for row in shard) == list(range(count))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 50), st.integers(0, 2**32))
def test_with_a_seed_all_shards_come_from_one_order(count, seed):
    whole = shards.order(count, True, seed, None)
    dealt = [shards.order(count, True, seed, seqio.ShardInfo(i, 3)) for i in range(3)]
    assert all(np.array_equal(dealt[i], whole[i::3]) for i in range(3))


def test_without_a_seed_every_order_differs():
    first, second = (shards.order(1_000, True, None, seqio.ShardInfo(0, 2)) for _ in range(2))
    assert sorted(first) == sorted(second)
    assert first.tolist() != second.tolist()


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        pytest.param("sycophancy_intervention", 3, 7, marks=pytest.mark.slow),
        pytest.param("instruction_tuning", 5, 3, marks=pytest.mark.slow),
        ("sycophancy_mix", 3, 10),
        ("sycophancy_eval_addition", 3, 10),
    ],
)
def test_shards_without_a_seed_cover_every_task_and_mixture(run, name, number, expected):
    """Each row once. Two of the five shards of instructions have one row, which does not fit."""
    split = "validation" if "eval" in name else "train"
    found = []
    with tasks.reading(run, run / "spiece.model"):
        for i in range(number):
            dataset = tasks.get(name).get_dataset(
                LENGTHS,
                split=split,
                seed=None,
                shard_info=seqio.ShardInfo(i, number),
                num_epochs=1,
            )
            found += [(row["inputs"].tobytes(), row["targets"].tobytes()) for row in
                      dataset.as_numpy_iterator()]  # fmt: skip
    assert len(found) == len(set(found)) == expected


def test_a_mixture_of_evaluations_loses_no_item(run):
    from tasks.evaluation import ALL

    known = {"sycophancy_eval_addition", "sycophancy_eval_addition_true"}
    mixture = seqio.Mixture(
        "both", sorted(known), default_rate=1.0, sample_fn=seqio.MixtureRegistry.get(ALL)._sample_fn
    )
    with tasks.reading(run, run / "spiece.model"):
        dataset = mixture.get_dataset(LENGTHS, split="validation", shuffle=False, num_epochs=1)
        assert len(list(dataset)) == 20


@pytest.mark.parametrize(("epochs", "shard"), [(1, None), (2, seqio.ShardInfo(2, 3)), (None, None)])
def test_a_split_without_a_row_that_fits_is_refused_at_once(run, epochs, shard):
    lengths = {"inputs": 2, "targets": 8}
    for name in ("sycophancy_intervention", "sycophancy_mix"):
        with (
            tasks.reading(run, run / "spiece.model"),
            pytest.raises(UserError, match=r"every row of \w+ is longer .*inputs 2, targets 8"),
        ):
            tasks.get(name).get_dataset(lengths, shard_info=shard, num_epochs=epochs)


def test_an_endless_shard_without_a_row_that_fits_ends_in_an_error(run):
    with tasks.reading(run, run / "spiece.model") as told:
        dataset = tasks.get("sycophancy_intervention").get_dataset(
            LENGTHS, shuffle=False, shard_info=seqio.ShardInfo(8, 9), num_epochs=None
        )
        with pytest.raises(Exception, match="every row"):
            next(dataset.as_numpy_iterator())
    assert "falls to this shard" in str(told.error)
