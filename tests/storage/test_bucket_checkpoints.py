"""Checkpoints that Orbax writes to a bucket: pruned, continued from, and set aside when damaged."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.extras
# In a process of its own, because epath and Orbax keep the first clients that they make.
PROGRAM = """
import sys
import jax
import jax.numpy as jnp
from sycophancy.model.checkpoints.orbax import Checkpoints, Damaged
from sycophancy.storage.bucket import Bucket
params = {"a": jax.random.normal(jax.random.key(0), (3, 5000))}
state = {"s": jnp.zeros([], jnp.int32)}
address = "gs://runs/xl/finetune"
bucket = Bucket(address)
with Checkpoints(f"{address}/checkpoints", 2) as checkpoints:
    for step in (2, 4, 6):
        checkpoints.save(step, params, state, {"format": 1, "step": step})
    checkpoints.wait()
    assert checkpoints.steps() == [6, 4]
    assert not any("checkpoints/2/" in name for name in bucket.versions())
    found, _ = checkpoints.restore(6, params, state)
    assert (found["a"] == params["a"]).all()
    bucket.remove(name for name in bucket.versions() if "/6/params/ocdbt.process_0/d/" in name)
    try:
        checkpoints.restore(6, params, state)
    except Damaged as error:
        assert len(str(error).splitlines()) == 1
        assert f"{address}/checkpoints/6 cannot be read" in str(error), error
    else:
        raise AssertionError("nobody saw the damage")
    assert str(checkpoints.set_aside(6)) == f"{address}/damaged/6"
    assert checkpoints.steps() == [4]
    assert any(name.startswith("damaged/6/params/") for name in bucket.versions())
    assert not any(name.startswith("checkpoints/6/") for name in bucket.versions())
    checkpoints.save(6, params, state, {"format": 1, "step": 6})
    checkpoints.wait()
    assert checkpoints.check(6)["step"] == 6
print("done")
"""


def test_checkpoints_in_a_bucket(server):
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["done"], done.stderr[-3000:]
