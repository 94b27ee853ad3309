"""What people see of a run: TensorBoard, history.csv, the progress bar, a profile.

Everything here is given data and shows it; nothing here computes with the model. May import
`trainer.runtime` and `trainer.config`.
"""
