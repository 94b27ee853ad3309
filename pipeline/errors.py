"""The two ways in which a command can fail, told to people in one line each."""


class Mistake(Exception):
    """What the user typed cannot be done; the message says what to type instead. Exit code 1."""


class Fault(Exception):
    """Data, disk or numbers are broken; the message says where. Exit code 2."""
