"""Which device holds what: a mesh data x fsdp x model, and T5X's logical axes on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sycophancy.config.schema import AUTO_MESH, MESH_AXES, NetworkConfig
from sycophancy.model.mesh import Shape, auto_mesh, filled
from sycophancy.model.network import Transformer

BATCH_AXES = ("data", "fsdp")

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]


def make_mesh(shape: Shape, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh `shape` = (data, fsdp, model) of all devices; -1 takes what the others leave.

    Raises:
      UserError: the shape does not use up the devices.
    """
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices).reshape(filled(shape, len(devices))), MESH_AXES)


def resolve(shape: Shape, network: NetworkConfig, memory: int | None = None) -> Shape:
    """`shape` itself, or for (-1, -1, 1) what `auto_mesh` takes for a finetuning of `network`.

    Args:
      shape: data, fsdp, model.
      network: what is trained.
      memory: bytes of a device; by default what the first says.
    """
    if shape != AUTO_MESH:
        return shape
    if memory is None:  # another process's devices do not tell
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    params = jax.tree.leaves(nn.unbox(abstract_params(network)))
    return auto_mesh(shape, 2 * sum(4 * leaf.size for leaf in params), memory)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over data and fsdp, the rest whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def logical_rules(network: NetworkConfig, mesh: Mesh) -> Rules:
    """Mesh axis by logical axis, T5X's names.

    A batch is split over data and fsdp; a matrix over fsdp along the embedding and over model
    along its other side. An axis that the mesh axis does not divide (6 heads on 4 devices) stays
    whole, as does one without a rule.
    """
    wanted = (
        ("vocab", network.vocab_size, "model"),
        ("mlp", network.mlp_dim, "model"),
        ("heads", network.num_heads, "model"),
        ("joined_kv", network.num_heads * network.head_dim, "model"),
        ("embed", network.emb_dim, "fsdp"),
    )
    return (
        ("batch", BATCH_AXES),
        *((name, axis if size % mesh.shape[axis] == 0 else None) for name, size, axis in wanted),
        *((name, None) for name in ("kv", "length", "layers", "relpos_buckets")),
    )


def abstract_params(network: NetworkConfig) -> Any:
    """The network's parameter tree of `jax.ShapeDtypeStruct`, with boxed logical axes."""
    tokens = jax.ShapeDtypeStruct((1, 2), np.int32)
    variables = jax.eval_shape(Transformer(network).init, jax.random.key(0), tokens, tokens, tokens)
    return variables["params"]


def sharded_params(network: NetworkConfig, mesh: Mesh) -> Any:
    """The unboxed parameter tree of `jax.ShapeDtypeStruct` with shardings."""
    boxed = abstract_params(network)
    shardings = nn.logical_to_mesh_sharding(
        nn.get_partition_spec(boxed), mesh, logical_rules(network, mesh)
    )
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        nn.unbox(boxed),
        shardings,
    )


def like_params(state: Any, params: Any, mesh: Mesh) -> Any:
    """`state` with shardings: a tree within it that mirrors `params` follows theirs.

    A leaf that lost a dimension (a factored second moment) is whole everywhere: it is small.

    Args:
      state: tree of `jax.ShapeDtypeStruct`, such as an optimizer's state.
      params: tree of `jax.ShapeDtypeStruct` with shardings.
      mesh: where.
    """
    mirrors: Any = jax.tree.structure(params)

    def place(leaf: Any, like: Any = None) -> jax.ShapeDtypeStruct:
        follows = like is not None and leaf.shape == like.shape
        sharding = like.sharding if follows else replicated(mesh)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    def follow(node: Any) -> Any:
        if jax.tree.structure(node) == mirrors:
            return jax.tree.map(place, node, params)
        return place(node)

    return jax.tree.map(follow, state, is_leaf=lambda n: jax.tree.structure(n) == mirrors)


def shardings_of(tree: Any) -> Any:
    """The shardings of arrays or of `jax.ShapeDtypeStruct`."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def put(tree: Any, shardings: Any) -> Any:
    """Host arrays, the same on every process, as global device arrays."""

    def one(leaf: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(one, tree, shardings)


def put_batch(batch: Any, mesh: Mesh) -> Any:
    """A batch, the same in every process, with its rows dealt out to the devices."""
    return put(batch, jax.tree.map(lambda _: batch_sharding(mesh), batch))
