"""Makes a witness look like a request that somebody could send, where it can stay a witness.

Engines find the shortest texts: the action `s3:delete`, the resource `arn:aws:s3:::b/`. The catalogue has real actions
and the ARN formats that go with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from medley.policy.catalogue import catalogue, sample_arn
from medley.policy.iam.document import PrincipalType
from medley.policy.iam.request import Caller, Request

_COMMON = ("s3:GetObject", "s3:PutObject", "ec2:RunInstances", "iam:PassRole", "sts:AssumeRole", "kms:Decrypt")
_CALLERS = (
    Caller(PrincipalType.AWS, "arn:aws:iam::111122223333:user/example"),
    Caller(PrincipalType.AWS, "arn:aws:iam::444455556666:role/example"),
)


def realistic(request: Request, still: Callable[[Request], bool]) -> Request:
    """The request with real names where `still` holds for them; the request itself where it does not."""
    request = _first(request, _with_actions(request), still)
    request = _first(request, _with_resources(request), still)
    if request.caller is not None and request.caller.type is PrincipalType.AWS and ":" not in request.caller.id:
        request = _first(request, (replace(request, caller=caller) for caller in _CALLERS), still)
    return request


def _first(request: Request, candidates: Iterator[Request], still: Callable[[Request], bool]) -> Request:
    return next((candidate for candidate in candidates if still(candidate)), request)


def _with_actions(request: Request) -> Iterator[Request]:
    known = catalogue().get(request.action)
    if known is not None:
        yield replace(request, action=known.name)
        return
    service = request.action.partition(":")[0]
    for action in catalogue().by_service.get(service, ()):
        yield replace(request, action=action.name)
    if service not in catalogue().by_service:
        for name in _COMMON:
            yield replace(request, action=name)


def _with_resources(request: Request) -> Iterator[Request]:
    if request.resource.count(":") >= 5 and not request.resource.endswith(("/", ":")) and "::x" not in request.resource:
        return
    action = catalogue().get(request.action)
    formats = action.arns if action is not None else ()
    if request.resource.startswith("arn:") and request.resource.count(":") >= 5:
        for ending in ("example", "example.txt"):
            yield replace(request, resource=request.resource + ending)
    for arn_format in formats:
        yield replace(request, resource=sample_arn(arn_format))
    if not formats:
        yield replace(request, resource="*")
