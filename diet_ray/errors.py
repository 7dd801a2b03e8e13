"""The one exception family: whatever a user can cause and mend is a `DietError`.

The message names the file, row, field or key and says what to do; the command line prints it as
one line and exits with `exit_code`.
"""

MAX_MESSAGE = 1_000
"""Characters."""


class DietError(Exception):
    """Base of every error that a person can mend."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        """The message is put on one line, and cut off where what it quotes has no end."""
        line = " ".join(message.split())
        super().__init__(line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]}…")


class ConfigError(DietError):
    """A key or value of a configuration or schema file is wrong."""


class DataError(DietError):
    """A log, or a file derived from it, can't be used as it is."""


class DistilledSetError(DietError):
    """A distilled dataset or its evolving memory can't be read, written or resumed."""


class ClusterError(DietError):
    """The Ray cluster can't run what was asked."""


class OutputError(DietError):
    """An output folder exists already, or can't be written."""


def describe(error: BaseException) -> str:
    """One line: the kind of error, unless its text alone was written for people, and its text."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"
