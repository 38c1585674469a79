"""The exception for errors that the user can fix; apart from `structures`, which imports torch."""


class DetrLiteError(Exception):
    """A fault that the user can correct: one line with what is wrong, where, and the remedy.

    The commands print it and exit with 2.
    """
