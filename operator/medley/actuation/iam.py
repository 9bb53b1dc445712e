"""IAM roles of AWS, through boto3: what a role may do and who may take it on.

boto3 is loaded when a client is made. It is in the image's full variant only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Protocol
from urllib.parse import unquote

from medley.actuation.roles import CONSENT
from medley.model.errors import AccessError, MedleyError, TransientError, UserError
from medley.model.live_policy import LivePolicy

TIMEOUT_S = 10
_GONE = "NoSuchEntity"
_LATER = frozenset({"Throttling", "ThrottlingException", "ServiceFailure", "RequestLimitExceeded", "InternalFailure"})


class RolePart(Enum):
    """Which document of a role is meant."""

    IDENTITY = "Identity"
    TRUST = "Trust"


class IamClient(Protocol):
    """What is used of boto3's client for IAM."""

    def __getattr__(self, name: str) -> Any:
        """An operation."""


def iam_client() -> IamClient:
    """A client with the credentials and the endpoint that boto3 finds in the environment.

    Raises:
        UserError: boto3 is not installed, or the environment has no region or credentials to speak of.
    """
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise UserError("boto3 is not installed", field="iamRoleRef", fix="Use the image's full variant") from None
    settings = Config(
        connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"mode": "standard", "max_attempts": 3}
    )
    try:
        client: IamClient = boto3.client("iam", config=settings)
    except BotoCoreError as error:
        raise UserError(str(error), field="AWS", fix="Give the account of Medley's pods a role") from None
    return client


class IamRoleHome:
    """One document of one IAM role: an inline policy by name, or the trust policy."""

    def __init__(
        self,
        client: IamClient,
        role: str,
        part: RolePart,
        policy_name: str,
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._may_write = may_write
        self._client = client
        self._role = role
        self._part = part
        self._policy = policy_name

    def read(self) -> LivePolicy:
        """The document, with the role's other policies and its boundary beside an identity policy."""
        role = self._call("get_role", RoleName=self._role)["Role"]
        consent = next((tag["Value"] for tag in role.get("Tags") or [] if tag["Key"] == CONSENT), "")
        if self._part is RolePart.TRUST:
            text = _text(role["AssumeRolePolicyDocument"])
            return LivePolicy(text, marks={"document": text}, consent=consent)
        names = self._all("list_role_policies", "PolicyNames")
        inline = {name: self._inline(name) for name in names}
        attached = [found["PolicyArn"] for found in self._all("list_attached_role_policies", "AttachedPolicies")]
        beside = [text for name, text in sorted(inline.items()) if name != self._policy]
        beside += [self._managed(arn) for arn in sorted(attached)]
        boundary = (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
        document = inline.get(self._policy, "")
        return LivePolicy(
            document,
            tuple(beside),
            self._managed(boundary) if boundary else "",
            {"document": document} if document else {},
            consent,
        )

    def write(self, live: LivePolicy, document: str) -> None:
        """Replace the one document.

        IAM knows no conditional write, so what is there is read once more just before; a change in the moment between
        is lost, and judged at the next look.
        """
        if self.read() != live:
            raise TransientError(f"IAM role {self._role} has changed since it was read")
        if not self._may_write():
            raise TransientError(f"IAM role {self._role}: not written: this process does not lead")
        if self._part is RolePart.TRUST:
            self._call("update_assume_role_policy", RoleName=self._role, PolicyDocument=document)
        elif document:
            self._call("put_role_policy", RoleName=self._role, PolicyName=self._policy, PolicyDocument=document)
        else:
            self._call("delete_role_policy", RoleName=self._role, PolicyName=self._policy)

    def _inline(self, name: str) -> str:
        return _text(self._call("get_role_policy", RoleName=self._role, PolicyName=name)["PolicyDocument"])

    def _managed(self, arn: str) -> str:
        version = self._call("get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = self._call("get_policy_version", PolicyArn=arn, VersionId=version)
        return _text(found["PolicyVersion"]["Document"])

    def _all(self, operation: str, field: str) -> list[Any]:
        return list(self._pages(operation, field))

    def _pages(self, operation: str, field: str) -> Iterator[Any]:
        more: dict[str, str] = {}
        while True:
            answer = self._call(operation, RoleName=self._role, **more)
            yield from answer[field]
            if not answer.get("IsTruncated"):
                return
            more = {"Marker": answer["Marker"]}

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except ClientError as error:
            raise _refused(operation, self._role, error.response.get("Error") or {}) from error
        except BotoCoreError as error:
            raise TransientError(f"IAM {operation} {self._role}: {error}") from error
        return answer


def _refused(operation: str, role: str, error: dict[str, Any]) -> MedleyError:
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    text = f"IAM {_camel(operation)} {role}: {code}: {message}"
    if code == _GONE:
        return AccessError(f"{text}. Check iamRoleRef, and that the role is in this account")
    if code in _LATER:
        return TransientError(text)
    return AccessError(f"{text}. The role of Medley's pods needs iam:{_camel(operation)} on it")


def _camel(operation: str) -> str:
    return re.sub(r"(^|_)(\w)", lambda match: match.group(2).upper(), operation)


def _text(document: Any) -> str:
    """A document as text: boto3 gives most of them decoded, and some as URL-encoded JSON."""
    if isinstance(document, str):
        return unquote(document)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
