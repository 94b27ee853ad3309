"""What the commands share: flags, help, exit codes, standard streams, and the answers of predict.

Nothing heavy is imported at the top of these modules: `--help` and a wrong flag answer at once.
"""
