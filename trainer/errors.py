"""The trainer's one error: a sentence for a person, printed without a traceback, with exit status 1."""


class TrainerError(Exception):
    """The work cannot go on; the message says what was wrong, with which value, and what to do."""
