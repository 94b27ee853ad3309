"""Constants and a lock for conftest.py, which must not import TensorFlow: it takes seconds."""

import contextlib
import fcntl
from pathlib import Path

from absl.flags import FLAGS

ROOT = Path(__file__).parents[1]

# Settings small enough for seconds, on the small data set of the fixture `data_dir`.
SMALL = {
    "dataset": "imdb_offline",
    "vocab_size": 500,
    "sequence_length": 40,
    "embedding_dim": 8,
    "batch_size": 16,
    "epochs": 2,
    "learning_rate": 0.005,
    "summary_every": 5,
    "checkpoint_every": 4,
}
EXAMPLES = 400  # of the small data set, in train and test
DUPLICATES = 40  # texts of the small data set that occur twice


@contextlib.contextmanager
def only_one_process(path):
    """Waits for the other processes that are in this context with the same path."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def flags_of(command):
    """Defines the flags of a command; at the end, removes them and resets those of absl."""
    before = set(FLAGS)
    command.define_flags()
    defined = set(FLAGS) - before  # now: libraries imported later define flags that must stay
    try:
        yield
    finally:
        for name in before:
            if FLAGS[name].present:  # such as --verbosity
                FLAGS[name].unparse()
        for name in defined:
            delattr(FLAGS, name)
