"""Our packing against SeqIO's, and as a property of any examples."""

import numpy as np
import pytest
import seqio
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from sycophancy.training.packing import PackingConverter, pack_rows

SIZES = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 5)), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("lengths", "count"),
    [
        ((24, 8), 1),
        ((24, 8), 100),
        ((9, 5), 100),
        pytest.param((16, 16), 1, marks=pytest.mark.slow),
        pytest.param((16, 16), 100, marks=pytest.mark.slow),
        pytest.param((9, 5), 1, marks=pytest.mark.slow),
    ],
)
def test_rows_equal_those_of_seqio(lengths, count):
    rng = np.random.default_rng(count)

    def examples():
        for _ in range(count):
            yield {
                "inputs": rng.integers(1, 50, rng.integers(1, 10)).astype(np.int32),
                "targets": rng.integers(1, 50, rng.integers(1, 6)).astype(np.int32),
            }

    signature = {name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")}
    dataset = tf.data.Dataset.from_generator(examples, output_signature=signature)
    dataset = tf.data.Dataset.from_tensors(0).flat_map(lambda _: dataset).cache()
    list(dataset)
    arguments = {"task_feature_lengths": dict(zip(("inputs", "targets"), lengths, strict=True))}
    ours = list(PackingConverter()(dataset, **arguments).as_numpy_iterator())
    theirs = list(seqio.EncDecFeatureConverter(pack=True)(dataset, **arguments).as_numpy_iterator())
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@settings(deadline=None)
@given(SIZES)
def test_every_example_is_complete_in_order_and_in_a_segment_of_its_own(sizes):
    def padded(feature, width):
        rows = np.zeros((len(sizes), width), np.int32)
        for i, size in enumerate(sizes):
            rows[i, : size[feature]] = 1 + i
        return rows

    tokens, segments, positions, *targets = pack_rows([padded(0, 9), padded(1, 5)], (20, 6))
    seen = []
    for row, (ids, marks, places) in enumerate(zip(tokens, segments, positions, strict=True)):
        for segment in range(1, marks.max() + 1):
            inside = marks == segment
            (example,) = set(ids[inside])
            assert places[inside].tolist() == list(range(sizes[example - 1][0]))
            assert (targets[0][row][targets[1][row] == segment] == example).all()
            assert (targets[1][row] == segment).sum() == sizes[example - 1][1]
            seen.append(example)
        assert (ids[marks == 0] == 0).all()
    assert seen == list(range(1, len(sizes) + 1))
