"""Event files of a run that is resumed."""

import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.monitoring.summaries import Summaries


def test_steps_written_again_replace_the_old_ones(tmp_path):
    before = Summaries(tmp_path, first_step=0, token_names=[], label_names=("neg", "pos"))
    for step in (5, 10, 15):
        before.write("train", "step", {"loss": 1.0}, step=step)
    before.close()
    for path in (tmp_path / "train").iterdir():  # killed in the middle of a write
        path.write_bytes(path.read_bytes() + b"\x18\x00\x00")
    after = Summaries(tmp_path, first_step=11, token_names=[], label_names=("neg", "pos"))
    after.write("train", "step", {"loss": 2.0}, step=15)
    after.close()
    events = EventAccumulator(str(tmp_path / "train"), size_guidance={"tensors": 0}).Reload()
    tensors = events.Tensors("step/loss")
    # TensorBoard reads files by name, and within a second ".10." comes before ".9.".
    assert len(tensors) == 3
    values = {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in tensors}
    assert values == {5: 1.0, 10: 1.0, 15: 2.0}
