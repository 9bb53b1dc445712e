"""One small tree of errors; the class says whether trying again can help.

UserError: somebody must change an input. TransientError: try again later. CapacityError and AccessError: the
outside refuses for now, or until someone grants it. BugError: Medley itself is wrong. Messages name the object, the
field and the fix.
"""

from __future__ import annotations


class MedleyError(Exception):
    """Base of every error that Medley raises on purpose."""

    retryable: bool = False


class UserError(MedleyError):
    """An input is wrong; `field` is the path to it and `fix` says what to do."""

    def __init__(self, message: str, *, field: str = "", fix: str = "") -> None:
        self.message = message
        self.field = field
        self.fix = fix
        text = f"{field}: {message}" if field else message
        super().__init__(f"{text}. {fix}" if fix else text)


class TransientError(MedleyError):
    """The outside did not answer, or not in time; the same call may work later."""

    retryable = True


class CapacityError(MedleyError):
    """The outside has no capacity for what was asked."""

    retryable = True


class AccessError(MedleyError):
    """The outside refuses: a right is missing."""


class BugError(MedleyError):
    """Something that cannot happen did: report it."""
