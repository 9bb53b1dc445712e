"""Options and files that the `medley policy` commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from medley.model.errors import UserError
from medley.policy.ceilings import shipped_ceilings
from medley.policy.iam.document import Document, DocumentKind
from medley.policy.iam.parse import parse_document
from medley.policy.iam.policyset import PolicySet, Relation, alone
from medley.policy.iam.render import SizeLimit, size_characters
from medley.policy.prove import Prover
from medley.policy.rbac.document import Manifest
from medley.policy.rbac.parse import looks_like_manifest, parse_manifest
from medley.policy.spec.read import read_spec
from medley.policy.spec.spec import Spec

MAX_BYTES = 4_000_000
"""Longest file opened: UTF-8 text of as many characters as the readers take."""
TARGETS = {name.lower().replace("_", "-"): limit for name, limit in SizeLimit.__members__.items()}
_OF_RESOURCES = ("trust-policy", "bucket-policy")


def too_long_for(document: Document) -> list[str]:
    """Targets that take documents of this kind, but none so long."""
    size, named = size_characters(document), document.kind is DocumentKind.RESOURCE
    return [name for name, limit in TARGETS.items() if size > limit.value and (name in _OF_RESOURCES) is named]


def add_document(parser: argparse.ArgumentParser) -> None:
    """Options that name the document and what stands beside it."""
    parser.add_argument(
        "--document",
        "-d",
        type=Path,
        required=True,
        help="an IAM policy (JSON) or a manifest of Roles and bindings (YAML or JSON); - is stdin",
    )
    parser.add_argument("--resource-policy", type=Path, help="a resource policy that decides together with it")
    parser.add_argument("--boundary", type=Path, help="a permissions boundary that limits it")
    parser.add_argument(
        "--cross-account", action="store_true", help="caller and resource are of two accounts (with --resource-policy)"
    )


def add_spec(parser: argparse.ArgumentParser) -> None:
    """Options that name the access spec."""
    parser.add_argument("--spec", "-s", type=Path, required=True, help='access spec: YAML, or {"Requests": […]}')
    parser.add_argument(
        "--ceiling",
        action="append",
        default=[],
        metavar="NAME",
        help="a shipped ceiling, or a spec file whose ceiling applies as well; may be repeated",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Output form and time limit."""
    parser.add_argument("--timeout-ms", type=int, default=5000, help="limit of one question to Z3 (default 5000)")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")


def prover_of(args: argparse.Namespace) -> Prover:
    """Engines as the options say."""
    if args.timeout_ms <= 0:
        raise UserError(f"{args.timeout_ms} is no time limit", field="--timeout-ms", fix="Give milliseconds above 0")
    return Prover(args.timeout_ms)


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        UserError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        raw = sys.stdin.buffer.read(MAX_BYTES + 1) if str(path) == "-" else _read_bytes(path)
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", field=str(path), fix="Check the path") from None
    if len(raw) > MAX_BYTES:
        raise UserError(f"is larger than {MAX_BYTES:,} bytes", field=str(path), fix="Check that it is the right file")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8: byte {error.start}", field=str(path)) from None


def _read_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def read_document(path: Path, kind: DocumentKind | None = None) -> Document:
    """A policy document from a file."""
    return parse_document(read_text(path), str(path), kind)


def read_any(path: Path) -> Document | Manifest:
    """An IAM document or a Kubernetes manifest, told by what it looks like."""
    text = read_text(path)
    return parse_manifest(text, str(path)) if looks_like_manifest(text) else parse_document(text, str(path))


def policies_of(args: argparse.Namespace, document: Document) -> PolicySet:
    """The documents that decide together with the one that `--document` named."""
    if args.resource_policy is None and args.boundary is None:
        if args.cross_account:
            raise UserError("needs a resource policy", field="--cross-account", fix="Give --resource-policy")
        return alone(document)
    if document.kind is not DocumentKind.IDENTITY:
        raise UserError("is a resource policy", field="--document", fix="Give the identity policy here")
    resource = None if args.resource_policy is None else read_document(args.resource_policy, DocumentKind.RESOURCE)
    boundary = None if args.boundary is None else read_document(args.boundary, DocumentKind.BOUNDARY)
    relation = Relation.CROSS_ACCOUNT if args.cross_account else Relation.SAME_ACCOUNT
    return PolicySet((document,), resource, boundary, relation)


def spec_of(args: argparse.Namespace) -> Spec:
    """The spec for an IAM document, with the ceilings that were named."""
    spec = read_spec(read_text(args.spec), str(args.spec))
    return spec.with_ceilings(tuple(read_ceiling(name) for name in args.ceiling))


def read_ceiling(name: str) -> Spec:
    """A shipped ceiling by name, or a spec file, for an IAM document."""
    return read_spec(ceiling_text(name), name)


def ceiling_text(name: str) -> str:
    """The text of a shipped ceiling by name, or of a spec file.

    Raises:
        UserError: there is neither.
    """
    shipped = shipped_ceilings()
    if name in shipped:
        return shipped[name]
    if not Path(name).is_file():
        known = ", ".join(sorted(shipped)) or "none"
        raise UserError(f"{name!r} is neither shipped nor a file", field="--ceiling", fix=f"Shipped: {known}")
    return read_text(Path(name))


def main_document(policies: PolicySet) -> Document:
    """The document that `--document` named."""
    if policies.identity:
        return policies.identity[0]
    assert policies.resource is not None
    return policies.resource
