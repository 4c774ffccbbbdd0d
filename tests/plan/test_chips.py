"""Slices by name and shape, and what their interconnect carries."""

import pytest

from sycophancy.errors import UserError
from sycophancy.plan.chips import parse_slice


@pytest.mark.parametrize(
    ("text", "topology", "chips", "name"),
    [
        ("v4-32", "v4:2x2x4", 16, "v4-32"),
        ("v4:4x4x4", "v4:4x4x4", 64, "v4-128"),
        ("v5litepod-256", "v5e:16x16", 256, "v5e-256"),
        ("v5p-8", "v5p:2x2x1", 4, "v5p-8"),
        ("h100:8", "h100:8", 8, "h100-8"),
    ],
)
def test_slices_by_name_and_shape(text, topology, chips, name):
    place = parse_slice(text)
    assert (place.topology, place.chips, place.name) == (topology, chips, name)


@pytest.mark.parametrize("text", ["v9:2x2", "v4", "v4:2x2", "v4-7", "v5e:0x4", "h100:2x4", ""])
def test_an_unknown_slice_is_one_line_that_names_the_chips_or_shapes(text):
    with pytest.raises(UserError, match=r"^--topology [^\n]*$"):
        parse_slice(text)


@pytest.mark.parametrize(
    ("topology", "whole", "part"),
    [
        ("v4:2x2x4", 3 * 4.5e10, 4.5e10),
        ("v4:4x4x4", 6 * 4.5e10, 2 * 4.5e10),
        ("v5e:2x4", 2 * 4.5e10, 4.5e10),
        ("v5e:8x16", 3 * 4.5e10, 4.5e10),
    ],
)
def test_an_axis_counts_twice_where_it_closes_to_a_ring(topology, whole, part):
    place = parse_slice(topology)
    assert place.bandwidth("all-gather", place.chips) == whole
    assert place.bandwidth("all-gather", 2) == part
    assert place.bandwidth("collective-permute", place.chips) == 2 * 4.5e10
