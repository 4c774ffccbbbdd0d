"""The journal of a finetuning: errors of writing have one line."""

import pytest
import tensorflow as tf

from sycophancy.errors import UserError
from sycophancy.training.journal import Journal


def test_a_tensorboard_folder_that_cannot_be_made_is_an_error_of_one_line(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(UserError, match=r"tensorboard cannot be written: Not a dir") as caught:
        Journal(tmp_path, 0, None)
    assert "\n" not in str(caught.value)


class FullDisk:
    """A TensorBoard writer that fails as TensorFlow's does on a full disk."""

    def fail(self, *_):
        raise tf.errors.ResourceExhaustedError(
            None, None, "{{function_node x}} events; No space left on device\n\tFailed to flush"
        )

    write_scalars = close = fail


def test_a_full_disk_is_an_error_of_one_line_at_a_step_and_at_the_end(tmp_path):
    journal = Journal(tmp_path, 0, None)
    journal._writer.close()
    journal._writer = FullDisk()
    with pytest.raises(UserError, match=r"events; No space left on device; the last checkpoint"):
        journal.write(1, {"loss": 1.0})
    with pytest.raises(UserError, match="No space left"), journal:
        pass
    with pytest.raises(ValueError, match="what ended the run"), journal:
        raise ValueError("what ended the run")
