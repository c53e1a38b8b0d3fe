"""Every error that ACMF raises on purpose, cut by what the caller should do.

* AcmfError
  x ConfigError           wrong before we began: stop, tell a person
  x DataError             the data given cannot be used: mend the data, run again
    + MissingBars         bars are missing in a window that someone would read: fill or bridge them
    + BadCandle           a bar contradicts itself or its neighbours: look at the source
    + ConflictingBar      a closed bar came again with other values: kept out until a person accepts it
    + StaleData           the newest bar is not the expected one: wait, do not decide
  x SchemaMismatch        features and model disagree on names or order: never predict
  x InvalidPrediction     the model said something that is not a probability: never trade on it
  x ModelNotReady         no bundle, or one that fails its own checks: keep the old one
  x VenueError            the exchange said no, or said nothing
    + VenueUnavailable    may be tried again, later
    + OrderRejected       never again as it is
    + OrderUnknown        the outcome is not known: ask before doing anything
  x SafetyStop            a limit was hit: flatten, then stop
  x PromotionRefused      the gate said no: read which check, and why

Exit codes of the command line: 1 the answer is no, 2 wrong usage, 3 something outside failed.
"""


class AcmfError(Exception):
    """Base of all ACMF errors; caught only at the outermost level.

    Parameters
    ----------
    cause : str
        One sentence: what is wrong, with the figures.
    fix : str
        The next step for the person who reads it; may be empty.
    """

    exit_code = 3

    def __init__(self, cause: str, fix: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}; {self.fix}" if self.fix else self.cause

    def __reduce__(self) -> tuple[type["AcmfError"], tuple[str, str]]:
        return type(self), (self.cause, self.fix)


class ConfigError(AcmfError):
    """Wrong before we began."""

    exit_code = 2


class DataError(AcmfError):
    """The data given cannot be used."""

    exit_code = 2


class MissingBars(DataError):
    """Bars are missing in a window that someone would read."""


class BadCandle(DataError):
    """A bar contradicts itself or its neighbours."""


class ConflictingBar(DataError):
    """A closed bar came again with other values."""


class StaleData(DataError):
    """The newest bar is not the expected one."""

    exit_code = 3


class SchemaMismatch(AcmfError):
    """Features and model disagree on names, order or version."""

    exit_code = 1


class InvalidPrediction(AcmfError):
    """Probabilities that are NaN, negative or do not sum to one."""

    exit_code = 1


class ModelNotReady(AcmfError):
    """No bundle, or one that fails its own checks."""

    exit_code = 1


class VenueError(AcmfError):
    """The exchange said no, or said nothing."""


class VenueUnavailable(VenueError):
    """May be tried again, later."""


class OrderRejected(VenueError):
    """May not be tried again as it is."""


class OrderUnknown(VenueError):
    """Nobody knows whether the order was taken: ask before doing anything."""


class SafetyStop(AcmfError):
    """A limit was hit."""

    exit_code = 1


class PromotionRefused(AcmfError):
    """The gate said no."""

    exit_code = 1
