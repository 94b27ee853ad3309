"""From a corpus to a trained model: settings, the training loop, and what a run leaves behind.

Modules are layers: each imports only from those to its right.

    run → preparation → {loop, agreement} → step → artifacts → building → objectives
        → {evaluation, data} → monitoring → runtime → config
"""

__version__ = "0.3.0"
