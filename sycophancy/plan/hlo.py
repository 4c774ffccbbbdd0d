"""Counts collectives and matrix products in XLA's optimised program, loop iterations included."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
_BYTES = {"pred": 1, "s4": 1, "u4": 1, "c64": 8}  # for others, the digits are the bits
_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_SHAPE = re.compile(r"\b([a-z]+[0-9]*[a-z0-9]*)\[([0-9,]*)\]")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
# XLA may fuse one collective in pieces with the operations it overlaps; each piece then prints the
# whole collective. Pieces of one collective share these two numbers.
_CHAIN = re.compile(r'\bchannel_id=(\d+),.*\bchain_id="(\d+)"')
_CALLED = re.compile(r"\b(?:to_apply|calls)=\{?(%?[\w.-]+(?:, %?[\w.-]+)*)\}?")
_BRANCHES = re.compile(
    r"\b(?:branch_computations|true_computation|false_computation)="
    r"\{?(%?[\w.-]+(?:, %?[\w.-]+)*)\}?"
)


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind and group size in one run of a program.

    Attributes:
        kind: one of `KINDS`.
        group: how many chips take part.
        count: how often they happen.
        bytes: the bytes of all of them together on one chip: of an all-gather's result, and of the
            argument of any other.
    """

    kind: str
    group: int
    count: int
    bytes: int

    @property
    def sent(self) -> float:
        """Bytes that leave a chip if each is done as a ring."""
        share = (self.group - 1) / self.group
        if self.kind == "collective-permute":
            return float(self.bytes)
        return self.bytes * share * (2 if self.kind == "all-reduce" else 1)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    rest: str


class Program:
    """An optimised HLO module, and how often each of its computations runs.

    The number of a loop's iterations follows from its counter: the constant from which it starts
    (by default 0), the constant that each iteration adds (by default 1) and the constant with which
    the condition compares it.

    Args:
        text: the module as XLA prints it.
        chosen: how often a branch of a conditional runs each time that the conditional does, as the
            program cannot say.

    Attributes:
        unknown_loops: names of loops with another form of condition; they are counted once.
    """

    def __init__(self, text: str, chosen: float = 1.0) -> None:
        self._chosen = chosen
        self._computations: dict[str, list[_Instruction]] = {}
        self._entry = ""
        self.unknown_loops: list[str] = []
        current: list[_Instruction] | None = None
        for line in text.splitlines():
            if header := _HEADER.match(line):
                current = self._computations.setdefault(header[1], [])
                if line.startswith("ENTRY"):
                    self._entry = header[1]
            elif line.startswith("}"):
                current = None
            elif current is not None and (instruction := _read(line)):
                current.append(instruction)
        self._runs = self._count()

    def collectives(self, chips: int) -> list[Collective]:
        """The collectives of one run, by kind and group size; groups of one chip are left out.

        Args:
            chips: of the slice, which is the group of a collective that names none.
        """
        totals: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
        chains: set[tuple[str, ...]] = set()
        for instruction, runs in self._each():
            opcode = instruction.opcode.removesuffix("-start")
            if opcode not in KINDS or (group := _group(instruction.rest, chips)) == 1:
                continue
            if chain := _CHAIN.search(instruction.rest):
                if chain.groups() in chains:
                    continue
                chains.add(chain.groups())
            size = _shape_bytes(instruction.shape)
            if instruction.opcode.endswith("-start") and opcode != "all-reduce":
                size = _largest(instruction.shape)  # the result's tuple contains the argument
            if opcode == "reduce-scatter" and not instruction.opcode.endswith("-start"):
                size *= group
            entry = totals[opcode, group]
            entry[0] += runs
            entry[1] += runs * size
        return [Collective(*key, *counts) for key, counts in sorted(totals.items())]

    def matmul_flops(self) -> float:
        """Operations of all matrix products of one run on one chip, without those on padding."""
        total = 0.0
        for name, instructions in self._computations.items():
            shapes = {i.name: i.shape for i in instructions}
            for instruction in instructions:
                if instruction.opcode == "convolution":
                    total += self._runs[name] * _convolution_flops(instruction, shapes)
                elif instruction.opcode == "dot":
                    total += self._runs[name] * _dot_flops(instruction, shapes)
        return total

    def _each(self) -> Iterator[tuple[_Instruction, int]]:
        for name, instructions in self._computations.items():
            for instruction in instructions:
                if runs := self._runs[name]:
                    yield instruction, runs

    def _count(self) -> Mapping[str, int]:
        """Runs of each computation, from callers to callees: XLA prints callees first."""
        runs: dict[str, int] = defaultdict(int)
        runs[self._entry] = 1
        for name in reversed(self._computations):
            for instruction in self._computations[name] if runs[name] else ():
                if instruction.opcode == "while":
                    condition, body = (
                        re.search(rf"{part}=%?([\w.-]+)", instruction.rest)
                        for part in ("condition", "body")
                    )
                    if condition and body:
                        trips = self._trips(name, instruction, condition[1], body[1])
                        runs[body[1]] += runs[name] * trips
                elif instruction.opcode == "conditional":
                    for branches in _BRANCHES.findall(instruction.rest):
                        for callee in branches.split(", "):
                            runs[callee.lstrip("%")] += round(self._chosen * runs[name])
                elif called := _CALLED.search(instruction.rest):
                    for callee in called[1].split(", "):
                        runs[callee.lstrip("%")] += runs[name]
        return runs

    def _trips(self, caller: str, loop: _Instruction, condition: str, body: str) -> int:
        known = re.search(r'known_trip_count"?:\s*\{"?n"?:\s*"?(\d+)', loop.rest)
        if known:
            return int(known[1])
        instructions = {i.name: i for i in self._computations.get(condition, [])}
        for compare in instructions.values():
            if compare.opcode != "compare" or "direction=LT" not in compare.rest:
                continue
            counter, bound = (instructions.get(name) for name in _operands(compare.rest))
            at = re.search(r"index=(\d+)", counter.rest) if counter else None
            limit = _constant(bound)
            if at is None or limit is None:
                continue
            first = _constant(self._element(caller, _operands(loop.rest)[0], int(at[1])))
            return max(0, -(-(limit - (first or 0)) // self._stride(body, int(at[1]))))
        self.unknown_loops.append(loop.name)
        return 1

    def _element(self, computation: str, name: str, at: int) -> _Instruction | None:
        """The instruction that makes element `at` of a tuple, before copies and bitcasts."""
        known = {i.name: i for i in self._computations[computation]}
        instruction = known.get(name)
        if instruction is None or instruction.opcode != "tuple":
            return None
        instruction = known.get(_operands(instruction.rest)[at])
        while instruction is not None and instruction.opcode in ("copy", "bitcast"):
            instruction = known.get(_operands(instruction.rest)[0])
        return instruction

    def _stride(self, body: str, at: int) -> int:
        """What a loop's body adds to its counter; 1 if the body adds no constant."""
        step = self._element(body, self._computations[body][-1].name, at)
        if step is None or step.opcode != "add":
            return 1
        known = {i.name: i for i in self._computations[body]}
        added = [_constant(known.get(name)) for name in _operands(step.rest)]
        return next((value for value in added if value is not None and value > 0), 1)


def _constant(instruction: _Instruction | None) -> int | None:
    if instruction is None or instruction.opcode != "constant":
        return None
    value = instruction.rest.split(")")[0]
    return int(value) if value.lstrip("-").isdecimal() else None


def _read(line: str) -> _Instruction | None:
    match = _INSTRUCTION.match(line)
    if match is None:
        return None
    shape, rest = _split_shape(match[2])
    opcode, _, arguments = rest.partition("(")
    return _Instruction(match[1], shape, opcode.strip(), arguments)


def _split_shape(text: str) -> tuple[str, str]:
    """The result's shape, which may be a tuple, and the rest; layouts may contain parentheses."""
    depth = 0
    for at, character in enumerate(text):
        depth += (character in "({") - (character in ")}")
        if depth == 0 and character == " ":
            return text[:at], text[at + 1 :]
    return text, ""


def _operands(rest: str) -> list[str]:
    return re.findall(r"%([\w.-]+)", rest.split(")")[0])


def _sizes(shape: str) -> list[int]:
    return [
        math.prod(map(int, filter(None, dims.split(",")))) * _item_bytes(dtype)
        for dtype, dims in _SHAPE.findall(re.sub(r"\{[^}]*\}", "", shape))
    ]


def _item_bytes(dtype: str) -> int:
    bits = re.search(r"[0-9]+", dtype)
    return _BYTES[dtype] if dtype in _BYTES or bits is None else max(1, int(bits[0]) // 8)


def _shape_bytes(shape: str) -> int:
    return sum(_sizes(shape))


def _largest(shape: str) -> int:
    return max(_sizes(shape), default=0)


def _group(rest: str, chips: int) -> int:
    """How many chips take part in a collective."""
    if "source_target_pairs=" in rest:
        return chips
    named = re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest)
    if named:
        axes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
        return math.prod(int(axes.get(axis, 1)) for axis in re.findall(r"'([^']+)'", named[2]))
    if iota := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", rest):
        return int(iota[2])
    if listed := re.search(r"replica_groups=\{\{([0-9,]*)\}", rest):
        return len(listed[1].split(","))
    return chips


def _dims(shape: str) -> list[int]:
    match = _SHAPE.search(shape)
    return [int(size) for size in match[2].split(",") if size] if match else []


def _dot_flops(instruction: _Instruction, shapes: Mapping[str, str]) -> float:
    left = _dims(shapes.get(_operands(instruction.rest)[0], ""))
    contracted = re.search(r"lhs_contracting_dims=\{([0-9,]*)\}", instruction.rest)
    inner = math.prod(left[int(d)] for d in contracted[1].split(",") if d) if contracted else 1
    return 2.0 * math.prod(_dims(instruction.shape)) * inner


def _convolution_flops(instruction: _Instruction, shapes: Mapping[str, str]) -> float:
    """Operations of a convolution; a TPU's batched matrix product is one with dilated windows."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
    operands = [_dims(shapes.get(name, "")) for name in _operands(instruction.rest)[:2]]
    if labels is None or not all(operands):
        return 0.0
    left, right, out = operands[0], operands[1], _dims(instruction.shape)
    window = dict(re.findall(r"(\w+)=([\w-]+)", _window(instruction.rest)))
    pairs = 1
    for axis in sorted(set(labels[3]) - {"b", "f"}):
        at = int(axis)
        stride, left_dilate, right_dilate = (
            int(_part(window.get(name), at, "1")) for name in ("stride", "lhs_dilate", "rhs_dilate")
        )
        pairs *= _valid_pairs(
            left[labels[1].index(axis)],
            right[labels[2].index(axis)],
            out[labels[3].index(axis)],
            stride,
            left_dilate,
            right_dilate,
            int(_part(window.get("pad"), at, "0_0").split("_")[0]),
        )
    batch, features = out[labels[3].index("b")], out[labels[3].index("f")]
    return 2.0 * batch * features * right[labels[2].index("i")] * pairs


def _window(rest: str) -> str:
    match = re.search(r"window=\{([^}]*)\}", rest)
    return match[1] if match else ""


def _part(text: str | None, at: int, default: str) -> str:
    return text.split("x")[at] if text else default


def _valid_pairs(
    left: int, right: int, out: int, stride: int, left_dilate: int, right_dilate: int, pad: int
) -> int:
    """How many pairs of an output and a window position meet an element, not padding or a gap."""
    last = (left - 1) * left_dilate
    return sum(
        0 <= (place := at * stride + tap * right_dilate - pad) <= last and place % left_dilate == 0
        for at in range(out)
        for tap in range(right)
    )
