"""The trainer's errors: a sentence for a person, printed without a traceback, with exit status 1."""


class TrainerError(Exception):
    """The work cannot go on; the message says what was wrong, with which value, and what to do."""


class UnlearnableError(TrainerError):
    """Nothing can be learnt from just these texts; more of the same corpus may cure it."""
