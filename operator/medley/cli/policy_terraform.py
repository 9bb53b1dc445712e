"""Generated IAM policies as Terraform (HCL): roles, their inline policies, and what gives a role to pods."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from medley.policy.generate import ClusterEnvironment, Part, PolicyKind, Trust


def terraform_text(parts: Sequence[tuple[Part, str]], environment: ClusterEnvironment) -> str:
    """The HCL of IAM parts, each with the service account (NAMESPACE/NAME; empty: none) that takes its role on.

    A policy whose role's trust policy is not among the parts names the role, which must be there already.
    """
    trusted = {part.role for part, _ in parts if part.kind is PolicyKind.IAM_TRUST}
    blocks = []
    for part, account in parts:
        if part.kind is PolicyKind.IAM_TRUST:
            blocks.append(_role(part))
            if environment.trust is Trust.POD_IDENTITY:
                blocks.append(_association(part, account, environment))
        elif part.role:
            blocks.append(_role_policy(part, part.role in trusted))
        else:
            blocks.append(_policy(part))
    return "\n".join(blocks)


def _role(part: Part) -> str:
    return _block("aws_iam_role", part.role, [("name", _text(part.role)), ("assume_role_policy", _encoded(part))])


def _role_policy(part: Part, made: bool) -> str:
    role = f"aws_iam_role.{_label(part.role)}.name" if made else _text(part.role)
    fields = [("name", _text(part.name.value)), ("role", role), ("policy", _encoded(part))]
    return _block("aws_iam_role_policy", part.role, fields)


def _policy(part: Part) -> str:
    name = f"{part.name.value}_{part.owner.removeprefix('LLMService/').replace('/', '_')}"
    note = f"# {part.title}: attach it to the role of the nodes.\n"
    return note + _block("aws_iam_policy", name, [("name", _text(name)), ("policy", _encoded(part))])


def _association(part: Part, account: str, environment: ClusterEnvironment) -> str:
    namespace, _, name = account.partition("/")
    fields = [
        ("cluster_name", _text(environment.cluster)),
        ("namespace", _text(namespace)),
        ("service_account", _text(name)),
        ("role_arn", f"aws_iam_role.{_label(part.role)}.arn"),
    ]
    return _block("aws_eks_pod_identity_association", part.role, fields)


def _block(kind: str, name: str, fields: Iterable[tuple[str, str]]) -> str:
    fields = list(fields)
    width = max(len(key) for key, _ in fields)
    lines = [f"  {key:<{width}} = {value}" for key, value in fields]
    return "\n".join([f'resource "{kind}" "{_label(name)}" {{', *lines, "}", ""])


def _label(name: str) -> str:
    """A name of ours as Terraform names it: other characters become their code, so that no two names are one."""
    return re.sub(r"[^A-Za-z0-9_]", lambda found: "-" if found.group() == "-" else f"-{ord(found.group()):x}-", name)


def _encoded(part: Part) -> str:
    return f"jsonencode({_value(part.document, 2)})"


def _value(value: Any, indent: int) -> str:
    pad, inner = " " * indent, " " * (indent + 2)
    if isinstance(value, dict):
        lines = [f"{inner}{_text(key)} = {_value(found, indent + 2)}" for key, found in value.items()]
        return "\n".join(["{", *lines, f"{pad}}}"]) if lines else "{}"
    if isinstance(value, list):
        lines = [f"{inner}{_value(found, indent + 2)}," for found in value]
        return "\n".join(["[", *lines, f"{pad}]"]) if lines else "[]"
    return _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: str) -> str:
    """A string; `${` and `%{`, which start templates in HCL, doubled."""
    return json.dumps(text, ensure_ascii=False).replace("${", "$${").replace("%{", "%%{")
