"""The types of the trees of arrays that JAX's functions take and return."""

from __future__ import annotations

from typing import Any, TypeAlias

# A nested dict of arrays by name, such as {"encoder": {"layers": {...}}}: NumPy or JAX arrays,
# `LazyArray`s or `jax.ShapeDtypeStruct`s. JAX's tree functions take and return any tree, so the
# leaves' type cannot be stated.
ParameterTree: TypeAlias = dict[str, Any]

# A tree of any structure, such as an optimizer's state: nested dicts and named tuples of arrays.
StateTree: TypeAlias = Any
