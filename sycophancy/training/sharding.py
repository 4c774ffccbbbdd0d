"""Which device holds what: a mesh data x fsdp x model, and T5X's logical axes on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sycophancy.config import NetworkConfig
from sycophancy.errors import UserError
from sycophancy.model.network import Transformer

AXES = ("data", "fsdp", "model")
BATCH_AXES = ("data", "fsdp")

Rules = tuple[tuple[str, str | tuple[str, ...] | None], ...]


def make_mesh(shape: tuple[int, int, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh `shape` = (data, fsdp, model) of all devices; -1 takes what the others leave.

    Raises:
      UserError: the shape does not use up the devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = list(shape)
    unknown = [axis for axis, size in enumerate(sizes) if size == -1]
    known = math.prod(size for size in sizes if size != -1)
    if len(unknown) == 1 and known > 0 and len(devices) % known == 0:
        sizes[unknown[0]] = len(devices) // known
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        raise UserError(
            f"MESH {tuple(shape)} ({' x '.join(AXES)}) does not fit {len(devices)} devices; "
            "the product must be their number, and at most one size may be -1"
        )
    return Mesh(np.asarray(devices).reshape(sizes), AXES)


def resolve(
    shape: tuple[int, int, int],
    network: NetworkConfig,
    devices: Sequence[jax.Device] | None = None,
    memory: int | None = None,
) -> tuple[int, int, int]:
    """`shape` itself, or for (-1, -1, 1) a mesh that a finetuning of `network` fits on.

    As little fsdp as holds parameters and gradients (4 bytes each; Adafactor's state is small) in
    half of a device's memory.

    Args:
      shape: (data, fsdp, model).
      network: what is trained.
      devices: by default all.
      memory: bytes of a device; by default what it says. Where nothing says, fsdp stays 1.
    """
    if shape != (-1, -1, 1):
        return shape
    devices = jax.devices() if devices is None else devices
    if memory is None:
        memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    needed = 2 * sum(leaf.size * 4 for leaf in jax.tree.leaves(nn.unbox(abstract_params(network))))
    count = len(devices)
    sizes = [size for size in range(1, count + 1) if count % size == 0]
    fits = [size for size in sizes if memory is None or needed / size <= memory / 2]
    fsdp = fits[0] if fits else count
    return (count // fsdp, fsdp, 1)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows over data and fsdp, the rest whole."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on every device."""
    return NamedSharding(mesh, PartitionSpec())


def check_batch(batch_size: int, microbatches: int, mesh: Mesh) -> None:
    """Refuses a batch whose rows cannot be dealt out evenly.

    Raises:
      UserError: naming BATCH_SIZE, MICROBATCHES and the mesh.
    """
    parts = microbatches * mesh.shape["data"] * mesh.shape["fsdp"]
    if batch_size < 1 or microbatches < 1 or batch_size % parts:
        raise UserError(
            f"BATCH_SIZE {batch_size} does not divide by {parts}: the mesh is "
            f"{mesh.shape['data']} data x {mesh.shape['fsdp']} fsdp x {mesh.shape['model']} model, "
            f"MICROBATCHES {microbatches}; choose a multiple of {parts}"
        )


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
