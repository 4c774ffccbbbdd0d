"""Compiled programs are kept, where and as far as the user says."""

import os
import subprocess
import sys

from sycophancy import compiled

PROGRAM = """
import os, sys
from sycophancy import compiled
compiled.keep()
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
import jax
jax.jit(lambda x: x * 2 + 1)(3.0)
"""


def test_what_the_user_said_stays():
    said = {"JAX_COMPILATION_CACHE_DIR": "", "JAX_COMPILATION_CACHE_MAX_SIZE": "7"}
    environment = dict(said)
    compiled.keep(environment)
    assert said.items() <= environment.items()


def test_jax_keeps_its_programs_below_the_users_cache(tmp_path):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JAX_")},
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_PLATFORMS": "cpu",
    }
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True)
    assert list(tmp_path.glob("sycophancy/compiled/*/*-cache"))
