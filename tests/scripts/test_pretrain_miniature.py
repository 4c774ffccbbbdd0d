"""The script that pre-trains the miniature: what it refuses."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import pretrain_miniature


@pytest.mark.parametrize("theirs", [None, b"other pieces", b"the same pieces"])
def test_the_last_stage_of_a_run_with_another_vocabulary_is_refused(tmp_path, theirs):
    ours, source = tmp_path / "ours", tmp_path / "source"
    ours.mkdir()
    source.mkdir()
    (ours / "spiece.model").write_bytes(b"the same pieces")
    if theirs is not None:
        (source / "spiece.model").write_bytes(theirs)
    if theirs == b"the same pieces":
        pretrain_miniature.check_vocabulary(ours, source)
    else:
        with pytest.raises(SystemExit, match=r"source/spiece\.model is not the vocabulary"):
            pretrain_miniature.check_vocabulary(ours, source)
