"""A held-out set with few sums, for tests that run every stage: 1,000 prompts instead of 18,600."""

LARGEST, PROBED = 12, 8  # addends run from 1 to LARGEST; each probe asks PROBED sums

# The command line with few sums, as the text of a Python program.
PROGRAM = f"""
from sycophancy.data import addition, probes
addition.LARGEST, probes.SUMS = {LARGEST}, {PROBED}
from sycophancy.cli.main import main
main()
"""


def ask(patch) -> None:
    """Makes this process ask few sums, until the `pytest.MonkeyPatch` is undone."""
    patch.setattr("sycophancy.data.addition.LARGEST", LARGEST)
    patch.setattr("sycophancy.data.probes.SUMS", PROBED)
