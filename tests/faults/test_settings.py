"""Any value of any setting gives a configuration that reads back unchanged, or a refusal by name.

The values are within and beyond each macro's type and limits, and of every other type.
`make faults` runs the long form of each test.
"""

import contextlib
import dataclasses
import functools
import os
import re
import types
import typing
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sycophancy.cli.options import RunOptions
from sycophancy.cli.sweep import _step, listed
from sycophancy.config import bounds, macros
from sycophancy.config.load import check_flags, load_config, load_operative, macro_types
from sycophancy.data.catalog import SOURCES
from sycophancy.errors import UserError
from sycophancy.launch import job, tpu
from sycophancy.library.request import parse_mesh
from sycophancy.plan.chips import parse_slice

MACROS = sorted(macro_types())
SHORT_AND_LONG = [60, pytest.param(1_000, marks=pytest.mark.faults)]

any_text = st.text(st.characters(), max_size=300)  # with surrogates, NUL and line breaks
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**31 - 2, 2**31 - 1, 2**32, 2**63, 2**64, 10**22, 10**400, -(10**400)])
    | st.sampled_from([1e308, 5e-324, -0.0])
    | st.integers(4_000, 5_000).map(lambda digits: 16**digits)  # of more than Python writes
)
scalars = st.none() | st.booleans() | numbers | any_text | st.binary(max_size=9)
keys = st.booleans() | numbers | any_text
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)
gin_like = st.text(
    st.sampled_from("{}[]()'\"=%@/:.,\n\r\t\\ #\ufeffé\0A1e-_\ud800include"), max_size=80
)


def fitting(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of a type within its limits; the limits themselves are among them."""
    arguments = typing.get_args(annotation)
    origin = typing.get_origin(annotation)
    limits = []
    if origin is Annotated:
        base, *limits = arguments
        return _limited(base, [limit for limit in limits if isinstance(limit, bounds.Limit)])
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(fitting(arguments[0]), max_size=8).map(tuple)
        return st.tuples(*map(fitting, arguments))
    if dataclasses.is_dataclass(annotation):
        fields = typing.get_type_hints(annotation, include_extras=True)
        return st.fixed_dictionaries({name: fitting(fields[name]) for name in fields})
    if origin is not None:  # a union with None
        return st.one_of(*map(fitting, arguments))
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(-1, 10**7),
        float: st.floats(0, 1e7) | st.integers(0, 9),
        str: st.text(max_size=9),
        type(None): st.none(),
    }
    return plain[annotation]


def _limited(base: Any, limits: list[bounds.Limit]) -> st.SearchStrategy[Any]:
    for limit in limits:
        match limit:
            case bounds.Between() if base is int:
                least, most = int(limit.least), int(limit.most)
                return st.integers(least, most) | st.sampled_from([least, most])
            case bounds.Between():
                return st.floats(limit.least, limit.most, exclude_max=limit.below)
            case bounds.DataSets():
                return st.lists(st.sampled_from(sorted(SOURCES)), unique=True).map(tuple)
            case bounds.Distinct():
                (entry, _) = typing.get_args(base)
                return st.lists(fitting(entry), max_size=8, unique=True).map(tuple)
            case bounds.MeshSizes():
                sizes = [st.integers(1, limit.most)] * 2
                return st.just(limit.auto) | st.tuples(st.just(-1), *sizes).flatmap(
                    lambda axes: st.permutations(axes).map(tuple)
                )
            case bounds.Rates():
                rates = st.floats(limit.least, limit.most)
                return st.tuples(rates, st.just(0.0) | rates)
            case bounds.Entries():
                entry = fitting(typing.get_args(base)[0])
                return st.lists(entry, min_size=limit.least, max_size=limit.most).map(tuple)
            case bounds.Text() | bounds.Place() | bounds.Name():
                printed = st.characters(categories=["L", "N", "P", "S"], exclude_characters="/.")
                return st.text(printed, min_size=1, max_size=40)
    return fitting(base)


def as_gin(value: Any) -> str:
    """A value as a user would write it in a gin file."""
    match value:
        case int() if abs(value) > 10**4_000:
            return hex(value)
        case dict():
            return "{" + ", ".join(f"{as_gin(k)}: {as_gin(v)}" for k, v in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(as_gin, value)) + "]"
        case tuple():
            return "(" + "".join(f"{as_gin(item)}, " for item in value) + ")"
    return repr(value)


@st.composite
def macro_and_text(draw: st.DrawFn) -> tuple[str, str]:
    name = draw(st.sampled_from(MACROS))
    value = draw(st.one_of(fitting(macro_types()[name]).map(as_gin), values.map(as_gin), any_text))
    return name, value


def check_loads_or_names(load: typing.Callable[[], Any], *names: str) -> None:
    try:
        loaded = load()
    except UserError as error:
        assert any(name in str(error) for name in names), error
        assert len(str(error)) < 1_500
        return
    assert load_operative(loaded.operative, "config.gin") == loaded
    loaded.operative.encode()


NASTY = [
    *(
        "1e999",
        "-1e999",
        "1e308",
        "5e-324",
        "-0.0",
        "nan",
        "inf",
        "1j",
        "''",
        "None",
        "True",
        "...",
    ),
    *(f"{sign}{digits}" for sign in ("", "-") for digits in ("1" + 400 * "0", "0x" + 5_000 * "f")),
    *("9" * 5_000, f"(0x{'f' * 5_000}, 1)", "'\\ud800'", "'a\\x00b'", "'a\\nb'", repr("a" * 5_000)),
    *("{[1]: 2}", "{%X: 1}", "{'inputs': {}}", "((", "[[[[[[[[[[1]]]]]]]]]]", 3_000 * "(", "b'a'"),
    *(
        "@x",
        "%X",
        "é",
        "'é'",
        "\ufeff1",
        "1\n2",
        "1 # 2",
        "1\r",
        "\0",
        "\udcff",
        "import os",
        "a/b.c",
    ),
]


@pytest.mark.parametrize("name", MACROS)
def test_an_extreme_value_is_accepted_or_refused_by_name(name):
    for text in NASTY:
        try:
            check_flags([f"{name}={text}"], {})
        except UserError as error:
            assert name in str(error)
            assert len(str(error)) < 1_500
            continue
        load = functools.partial(load_config, "mini_base", "quick", [f"{name}={text}"])
        check_loads_or_names(load, name)


def numeric(annotation: Any, limit: bounds.Between | None = None) -> Any:
    """The type and the limit of a macro whose value is a number or None; None for other macros."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is Annotated:
        limits = [item for item in arguments[1:] if isinstance(item, bounds.Between)]
        return numeric(arguments[0], *limits[:1])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return numeric(arguments[0])
    return (annotation, limit) if limit is not None else None


@pytest.mark.parametrize("examples", SHORT_AND_LONG)
@pytest.mark.parametrize("name", [name for name in MACROS if numeric(macro_types()[name])])
def test_a_number_is_accepted_exactly_within_its_limits(name, examples):
    kind, limit = numeric(macro_types()[name])
    edges = [edge + step for edge in (limit.least, limit.most) for step in (-1, 0, 1)]

    @settings(max_examples=examples, derandomize=True, deadline=None)
    @given(
        st.sampled_from(edges) | st.integers() | (st.floats() if kind is float else st.nothing())
    )
    def holds(value):
        top = value < limit.most if limit.below else value <= limit.most
        expected = limit.least <= value and top
        try:
            check_flags([], {name: macros.Setting(value, "here")})
        except UserError as error:
            assert str(error).startswith(f"here: {name}: expected ")
            assert not expected
        else:
            assert expected

    holds()


@pytest.mark.parametrize("examples", SHORT_AND_LONG)
def test_any_flag_is_accepted_or_refused_by_name(examples):
    @settings(max_examples=examples, derandomize=True, deadline=None)
    @given(macro_and_text())
    def holds(pair):
        name, text = pair
        load = lambda: load_config("mini_base", "quick", [f"{name}={text}"])  # noqa: E731
        check_loads_or_names(load, name)

    holds()


@pytest.mark.parametrize("examples", SHORT_AND_LONG)
def test_a_value_within_its_limits_is_accepted_unless_another_setting_forbids_it(examples):
    @settings(max_examples=examples, derandomize=True, deadline=None)
    @given(st.data(), st.sampled_from(MACROS))
    def holds(data, name):
        value = data.draw(fitting(macro_types()[name]))
        try:
            loaded = load_config("mini_base", "quick", [f"{name}={as_gin(value)}"])
        except UserError as error:
            others = "MICROBATCHES|KEEP_PERIOD|BATCH_SIZE|MIXTURE_OR_TASK_NAME|FILTER_BALANCE"
            assert re.match(f"({others}) =|.* makes the model decoder-only$", str(error))
            return
        assert load_operative(loaded.operative, "config.gin") == loaded

    holds()


@pytest.mark.parametrize("examples", SHORT_AND_LONG)
def test_any_gin_file_is_read_or_refused_by_name(examples, tmp_path):
    path = tmp_path / "mine.gin"
    encodings = ["utf-8", "utf-8-sig", "utf-16", "latin-1"]

    @settings(max_examples=examples, derandomize=True, deadline=None)
    @given(
        st.lists(macro_and_text(), max_size=3),
        gin_like,
        st.sampled_from(encodings),
        st.sampled_from(["\n", "\r\n"]),
    )
    def holds(lines, rest, encoding, newline):
        written = [
            "include 'recipes/quick.gin'",
            *(f"{name} = {text}" for name, text in lines),
            rest,
        ]
        path.write_bytes(newline.join(written).encode(encoding, "replace"))
        load = lambda: load_config("mini_base", str(path))  # noqa: E731
        check_loads_or_names(load, "mine.gin", *MACROS)

    holds()


@pytest.mark.parametrize("examples", SHORT_AND_LONG)
def test_any_bytes_are_read_as_gin_or_refused_by_name(examples, tmp_path):
    path = tmp_path / "mine.gin"

    @settings(max_examples=examples, derandomize=True, deadline=None)
    @given(st.binary(max_size=200) | gin_like.map(lambda text: text.encode("utf-8", "replace")))
    def holds(content):
        path.write_bytes(content)
        check_loads_or_names(lambda: load_config("mini_base", str(path)), "mine.gin", *MACROS)

    holds()


@pytest.mark.parametrize("examples", SHORT_AND_LONG)
def test_a_run_with_any_name_lies_below_runs(examples):
    pieces = st.sampled_from(["..", ".", "/", "a", "ü", "\0", "\n", "a" * 256, "\udcff"])
    names = st.lists(pieces, max_size=6).map("".join) | any_text

    @settings(max_examples=10 * examples, derandomize=True, deadline=None)
    @given(names, st.booleans())
    def holds(name, out):
        try:
            folder = (RunOptions(out=name) if out else RunOptions(name=name)).folder()
        except UserError as error:
            assert ("--out" if out else "--name") in str(error)
            assert len(str(error)) < 400
            return
        assert all(len(part.encode()) <= 255 for part in Path(folder).parts)
        if not out:
            assert os.path.normpath(folder) == folder
            assert folder.startswith("runs/")

    holds()


READERS: list[typing.Callable[[str], Any]] = [
    parse_mesh,
    parse_slice,
    tpu.hosts,
    job.check_name,
    job._axis,
    _step,
    lambda text: listed("--models", text),
    lambda text: macros.find("recipe", text),
    lambda text: macros.find("model", f"{text}.gin"),
    lambda text: job.plan_runs("a", [text, "--name", text], [f"SEED={text}"]),
    lambda text: load_config(text, text),
]


@pytest.mark.parametrize("examples", SHORT_AND_LONG)
@pytest.mark.parametrize("reader", range(len(READERS)))
def test_every_option_of_free_text_is_read_or_refused(reader, examples):
    numbers_as_text = st.integers(0, 6_000).map("9".__mul__)
    pieces = st.sampled_from(
        ["data", "=", ",", "fsdp", "-1", "2", "v4", "-", ":", "x", "h100", "run", "SEED", "paper"]
    )
    texts = any_text | st.lists(pieces | numbers_as_text, max_size=6).map("".join)

    long = 5_000 * "9"
    for start in ("", "data=", "v4:", "v4-", "h100:", "SEED=", "0", "fsdp=-"):
        with contextlib.suppress(UserError):
            READERS[reader](start + long)

    @settings(max_examples=examples, derandomize=True, deadline=None)
    @given(texts)
    def holds(text):
        with contextlib.suppress(UserError):
            READERS[reader](text)

    holds()
