"""The callers that a question tells apart: finitely many, one for each subject, and somebody who is nobody's subject.

Bindings only give, so whoever a subject brings in is represented by the caller who has no more than that subject:
a user alone, a group's member without other groups, a service account with the groups that all of them have. What
such a caller may do, everybody whom the subject names may do; what he may not, he may not by this subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from medley.policy.clauses import Test
from medley.policy.rbac.dimensions import CALLER, one_of
from medley.policy.rbac.document import Subject, SubjectKind
from medley.policy.rbac.request import (
    ACCOUNTS,
    ANONYMOUS,
    AUTHENTICATED,
    MASTERS,
    UNAUTHENTICATED,
    Caller,
    service_account,
    user,
)
from medley.policy.rbac.roleset import RoleSet


class Callers:
    """The callers of one question, each with a text for the caller dimension."""

    def __init__(self, role_sets: Iterable[RoleSet], named: Iterable[Caller] = ()) -> None:
        subjects = [
            (subject, binding.metadata.namespace)
            for roles in role_sets
            for binding in roles.bindings
            for subject in binding.subjects
        ]
        # Names that could be a part of another's, of users as of groups: nobody fresh may be one of them by chance.
        texts = [subject.name for subject, _ in subjects] + [caller.user for caller in named]
        texts += [group for caller in named for group in caller.groups]
        parts = {part for text in texts for part in text.split(":")}
        parts |= {subject.namespace or where for subject, where in subjects}
        self._fresh = _unlike("somebody", parts)
        self._fresh_namespace = _unlike("somewhere", parts)
        found = [user(self._fresh), user(ANONYMOUS), *named]
        for subject, namespace in subjects:
            if subject.kind is not SubjectKind.GROUP or subject.name != MASTERS:
                found.append(self.least(subject, namespace))
        self.all = tuple(dict.fromkeys(found))
        self._texts = {caller: f"caller{number}" for number, caller in enumerate(self.all)}
        self.texts = tuple(self._texts.values())

    def least(self, subject: Subject, namespace: str) -> Caller:
        """The caller who has nothing but what the subject names."""
        if subject.kind is SubjectKind.USER:
            return user(subject.name)
        if subject.kind is SubjectKind.SERVICE_ACCOUNT:
            return service_account(subject.namespace or namespace, subject.name)
        if subject.name == UNAUTHENTICATED:
            return user(ANONYMOUS)
        if subject.name == AUTHENTICATED:
            return user(self._fresh)
        if subject.name == ACCOUNTS:
            return service_account(self._fresh_namespace, self._fresh)
        if subject.name.startswith(f"{ACCOUNTS}:"):
            return service_account(subject.name.removeprefix(f"{ACCOUNTS}:"), self._fresh)
        return user(self._fresh, subject.name)

    def test(self, who: Callable[[Caller], bool]) -> Test:
        """The caller is one of those."""
        return one_of(CALLER, (text for caller, text in self._texts.items() if who(caller)))

    def text(self, caller: Caller) -> str:
        """The text that stands for a caller."""
        return self._texts[caller]

    def caller(self, text: str) -> Caller:
        """The caller that a text stands for."""
        return self.all[self.texts.index(text)]


def _unlike(name: str, taken: set[str]) -> str:
    """The name, or the name with a number, that nobody has."""
    number = 0
    found = name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found
