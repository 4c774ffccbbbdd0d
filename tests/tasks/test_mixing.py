"""The rates at which mixtures draw rows, with and without packing."""

import itertools

import pytest
import seqio
from prepared_run import write_run

import tasks
from sycophancy.errors import UserError

LENGTHS = {"inputs": 64, "targets": 8}
DRAWS = 1_000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


def share_of_intervention(run, name, **told):
    with tasks.reading(run, run / "spiece.model", **told):
        dataset = tasks.get(name).get_dataset(
            LENGTHS, seed=0, num_epochs=None, passthrough_features=["example_id"]
        )
        drawn = itertools.islice(dataset.as_numpy_iterator(), DRAWS)
        return sum(row["example_id"].startswith(b"kept") for row in drawn) / DRAWS


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("sycophancy_mix", {}, 5 / 6),
        ("sycophancy_mix", {"mixture_ratio": (1, 3)}, 1 / 4),
        pytest.param("sycophancy_mix", {"mixture_ratio": (1, 0)}, 1, marks=pytest.mark.slow),
        ("sycophancy_mix", {"mixture_ratio": (0, 1)}, 0),
        ("sycophancy_mix_1to1", {}, 1 / 2),
        ("sycophancy_mix_5to1", {"mixture_ratio": (1, 1)}, 5 / 6),
        pytest.param("sycophancy_mix_2to7", {}, 2 / 9, marks=pytest.mark.slow),
        ("sycophancy_mix_1to0", {}, 1),
        pytest.param("sycophancy_mix_0to1", {}, 0, marks=pytest.mark.slow),
    ],
)
def test_realised_rate(run, name, told, expected):
    # Five standard errors of a share of 1,000 draws.
    tolerance = 5 * (expected * (1 - expected) / DRAWS) ** 0.5
    assert share_of_intervention(run, name, **told) == pytest.approx(expected, abs=tolerance)


def test_a_rate_of_zero_needs_no_files(run, tmp_path):
    (tmp_path / "filter").mkdir()
    (tmp_path / "filter/kept.parquet").write_bytes((run / "filter/kept.parquet").read_bytes())
    with tasks.reading(tmp_path, run / "spiece.model"):
        dataset = tasks.get("sycophancy_mix_1to0").get_dataset(LENGTHS, num_epochs=1)
        assert len(list(dataset)) == 300


@pytest.mark.parametrize("ratio", [(0, 0), (-1, 2), (1,), "5:1"])
def test_invalid_rates_are_refused(run, ratio):
    with (
        tasks.reading(run, run / "spiece.model", mixture_ratio=ratio),
        pytest.raises(UserError, match="MIXTURE_RATIO"),
    ):
        tasks.get("sycophancy_mix").get_dataset(LENGTHS)


def test_packed_rows_hold_whole_examples(run):
    with tasks.reading(run, run / "spiece.model"):
        dataset = seqio.get_dataset(
            "sycophancy_mix",
            {"inputs": 64, "targets": 32},
            seqio.EncDecFeatureConverter(pack=True),
            shuffle=True,
            seed=0,
            verbose=False,
        )
        packed = list(dataset.take(50).as_numpy_iterator())
    ends = sum((row["decoder_target_tokens"] == 1).sum() for row in packed)
    assert ends == sum(row["decoder_segment_ids"].max() for row in packed)
    assert ends > 2 * len(packed)
    for row in packed:
        assert row["encoder_segment_ids"].max() == row["decoder_segment_ids"].max()


def test_validation_mixes_both(run):
    with tasks.reading(run, run / "spiece.model"):
        dataset = tasks.get("sycophancy_mix").get_dataset(
            LENGTHS, split="validation", shuffle=False, num_epochs=1
        )
        assert len(list(dataset)) > 20
