"""Has reviews done in a process of their own, under a time limit that holds whatever a solver does."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol

from medley.model.errors import TransientError, UserError
from medley.policy.review import Case, Review, review

_log = logging.getLogger(__name__)
NICENESS = 10
"""Of the process: reviews have time, the rest of the machine may not."""


class Reviewer(Protocol):
    """Who reviews."""

    def review(self, case: Case, proposal: ProposerSettings | None) -> Review:
        """The review.

        Raises:
            UserError: a document or a spec cannot be read.
            TransientError: it could not be done, or not in time.
        """
        ...


@dataclass(frozen=True, slots=True)
class ProposerSettings:
    """A language model that is asked for edits first.

    Attributes:
        url: base URL of an OpenAI-compatible endpoint.
        model: its name.
        key: for the endpoint; empty: none.
        timeout_s: for one answer.
    """

    url: str
    model: str
    key: str = ""
    timeout_s: float = 20.0


class _Ended(Exception):  # noqa: N818  (control flow, never shown)
    """The child is gone."""


class ProcessReviewer:
    """Reviews in a child process, which is kept for the next one, and killed when it takes too long.

    Args:
        limit_s: for one review, with all repairs that are tried.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._context = multiprocessing.get_context("spawn")
        self._child: tuple[SpawnProcess, Connection] | None = None

    def review(self, case: Case, proposal: ProposerSettings | None) -> Review:
        """The review, or an error when it is not there in time."""
        try:
            answer = self._asked(case, proposal)
        except _Ended:
            # It may have died long before, idle; one that dies of this case does so again.
            try:
                answer = self._asked(case, proposal)
            except _Ended as error:
                raise TransientError(f"the process that reviews ended: {error}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _asked(self, case: Case, proposal: ProposerSettings | None) -> Review | Exception:
        process, pipe = self._running()
        try:
            pipe.send((case, proposal))
            if not pipe.poll(self._limit_s):
                self.close()
                raise TransientError(f"the review took longer than {self._limit_s:g} s")
            answer: Review | Exception = pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise _Ended(str(error) or f"exit code {process.exitcode}") from error
        return answer

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is None:
            return
        process, pipe = self._child
        self._child = None
        with contextlib.suppress(OSError):
            pipe.close()
        process.kill()
        process.join(timeout=5)

    def _running(self) -> tuple[SpawnProcess, Connection]:
        if self._child is None or not self._child[0].is_alive():
            self.close()
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_serve, args=(theirs,), name="medley-review", daemon=True)
            process.start()
            theirs.close()
            self._child = process, ours
        return self._child


def _serve(pipe: Connection) -> None:
    """Reviews until the other side is gone."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            case, proposal = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(_answer(case, proposal))


def _end_with_parent() -> None:
    """A parent that was killed wants nothing any more, however deep in a proof this is."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _review(case: Case, proposal: ProposerSettings | None) -> Review:
    if proposal is None:
        return review(case)
    from medley.measurement.llm_proposer import LlmProposer

    return review(case, LlmProposer(proposal.url, proposal.model, proposal.key, proposal.timeout_s))


def _answer(case: Case, proposal: ProposerSettings | None) -> Review | Exception:
    try:
        return _review(case, proposal)
    except UserError as error:
        # Errors of ours take keyword arguments, which pickle does not keep.
        return PlainUserError(str(error))
    except RecursionError:
        return TransientError("the review was too deep")
    except Exception as error:
        return TransientError(f"the review failed, report this: {error!r}")


class PlainUserError(UserError):
    """A UserError with its whole text: what comes from another process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
