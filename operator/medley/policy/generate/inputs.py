"""What policies are generated from: the cluster's place in its cloud, a service's needs, the operator's needs.

Values are checked where they are made. Nothing is escaped: a text that would mean more in a policy than what it names
(`*`, `?`, `${`) is refused, with its field and the fix.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from medley.model.errors import UserError
from medley.model.objects import ServiceKey


class Trust(Enum):
    """How pods come by the credentials of their role: an OIDC token of their own, or EKS's agent on the node."""

    IRSA = "irsa"
    POD_IDENTITY = "pod-identity"


class RouterAccess(Enum):
    """What a service's router does with its routing ConfigMap.

    READ: gets and watches it. ACKNOWLEDGE: notes in an annotation, too, which table it steers by (a patch), which is
    what Medley waits for before it plans for finer routing.
    """

    READ = "read"
    ACKNOWLEDGE = "acknowledge"


_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\Z", re.ASCII)
_REGIONS = {"aws": r"(?!cn-|us-gov-|us-iso|eu-isoe)", "aws-cn": r"(?=cn-)", "aws-us-gov": r"(?=us-gov-)"}
_REGION = r"[a-z]{2}(-[a-z]+){1,2}-[1-9]\Z"
_CLUSTER = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}\Z", re.ASCII)
_ISSUER = re.compile(rf"(?=.{{1,200}}\Z){_LABEL}(\.{_LABEL})+(/[A-Za-z0-9_.-]+)*\Z", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z", re.ASCII)
_NUMBERS = re.compile(r"\d+\.\d+\.\d+\.\d+\Z", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9!_.'()=@+,/-]{1,512}\Z", re.ASCII)
_ROLE = re.compile(r"[\w+=,.@-]+\Z", re.ASCII)
_GROUP = re.compile(r"[A-Za-z0-9_.@+=,/-]{1,255}\Z", re.ASCII)
_KEY = re.compile(r"key/(mrk-[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z", re.ASCII)
_REPOSITORY = re.compile(r"repository/[a-z0-9]+([._/-]+[a-z0-9]+)*\Z", re.ASCII)
MAX_ROLE_NAME = 64
"""Characters of an IAM role's name (source: IAM quotas)."""


@dataclass(frozen=True, slots=True)
class ClusterEnvironment:
    """Where an EKS cluster is. `oidc_issuer` without scheme; only IRSA needs it.

    Raises:
        UserError: a value is not of its form, or partition and region do not go together.
    """

    partition: str
    account: str
    region: str
    cluster: str
    oidc_issuer: str | None = None
    trust: Trust = Trust.IRSA

    def __post_init__(self) -> None:
        if self.partition not in _REGIONS:
            raise UserError(f"{self.partition!r} is not known", field="partition", fix=f"Use {', '.join(_REGIONS)}")
        if not re.match(_REGIONS[self.partition] + _REGION, self.region, re.ASCII):
            raise UserError(
                f"{self.region!r} is no region of {self.partition}", field="region", fix="Name one, as in us-east-1"
            )
        if not re.match(r"\d{12}\Z", self.account, re.ASCII):
            raise UserError(f"{self.account!r} is no account", field="account", fix="Give its 12 digits, quoted")
        if not _CLUSTER.match(self.cluster):
            raise UserError(
                f"{self.cluster!r} is no name of an EKS cluster", field="cluster", fix="Give the name, not an ARN"
            )
        if self.oidc_issuer is not None and not _ISSUER.match(self.oidc_issuer):
            raise UserError(
                f"{self.oidc_issuer!r} is no issuer",
                field="oidcIssuer",
                fix="Give it without https://, as in oidc.eks.us-east-1.amazonaws.com/id/…",
            )
        if self.trust is Trust.IRSA and self.oidc_issuer is None:
            raise UserError("is missing", field="oidcIssuer", fix="Give it, or use the trust pod-identity")

    def arn(self, service: str, resource: str) -> str:
        """The ARN of something in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    @property
    def cluster_arn(self) -> str:
        """The cluster's ARN."""
        return self.arn("eks", f"cluster/{self.cluster}")


def partition_of(region: str) -> str:
    """The partition that a region belongs to, told by its name."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


@dataclass(frozen=True, slots=True)
class BucketPrefix:
    """A folder of a bucket: the objects whose keys begin with `prefix/`."""

    bucket: str
    prefix: str

    def overlaps(self, other: BucketPrefix) -> bool:
        """Whether one lies in the other."""
        one, two = f"{self.prefix}/", f"{other.prefix}/"
        return self.bucket == other.bucket and (one.startswith(two) or two.startswith(one))


def bucket_prefix(uri: str, field: str) -> BucketPrefix:
    """A folder from `s3://bucket/prefix`; a slash at the end changes nothing.

    Raises:
        UserError: it is not of that form, or has characters that a policy would read as more than themselves.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, prefix = rest.partition("/")
    prefix = prefix.removesuffix("/")
    if scheme != "s3":
        raise UserError(f"{uri!r} is not in S3", field=field, fix="Give s3://BUCKET/PREFIX")
    odd = _NUMBERS.match(bucket) or ".." in bucket or bucket.startswith(("xn--", "sthree-", "amzn-s3-demo-"))
    if not _BUCKET.match(bucket) or odd or bucket.endswith(("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")):
        raise UserError(
            f"{bucket!r} is no name of a general purpose bucket", field=field, fix="Give the bucket itself, no alias"
        )
    if not prefix:
        raise UserError("names a whole bucket", field=field, fix="Put the files under a prefix and name it")
    if not _PREFIX.match(prefix) or prefix.startswith("/") or prefix.endswith("/") or "//" in prefix:
        raise UserError(
            f"the prefix {prefix!r} has characters that a policy cannot name safely",
            field=field,
            fix="Use letters, digits, single slashes and !_.'()=@+,-",
        )
    return BucketPrefix(bucket, prefix)


def own_arn(arn: str, service: str, environment: ClusterEnvironment, field: str) -> str:
    """An ARN of the account and region, of a key (`kms`) or an image repository (`ecr`).

    Raises:
        UserError: it is none, or of another partition, region or account.
    """
    parts = arn.split(":", 5)
    resources = {"kms": (_KEY, "key/ID (an alias is no ARN of a key)"), "ecr": (_REPOSITORY, "repository/NAME")}
    pattern, form = resources[service]
    if len(parts) < 6 or parts[0] != "arn" or parts[2] != service or not pattern.match(parts[5]):
        raise UserError(f"{arn!r} is no ARN of {service}", field=field, fix=f"Use {environment.arn(service, form)}")
    for name, found, wanted in (
        ("partition", parts[1], environment.partition),
        ("region", parts[3], environment.region),
        ("account", parts[4], environment.account),
    ):
        if found != wanted:
            raise UserError(
                f"is of the {name} {found!r}, not {wanted!r}",
                field=field,
                fix=f"Use one of this {name}, or leave it out",
            )
    return arn


def object_name(name: str, field: str) -> str:
    """A name of a Kubernetes object.

    Raises:
        UserError: it is none.
    """
    if not _SUBDOMAIN.match(name):
        raise UserError(f"{name!r} is no name of an object", field=field, fix="Use a-z, 0-9, - and .")
    return name


def role_name(name: str, field: str) -> str:
    """A name of an IAM role.

    Raises:
        UserError: it is too long or has other characters.
    """
    if not _ROLE.match(name):
        raise UserError(f"{name!r} is no name of an IAM role", field=field, fix="Use letters, digits and +=,.@_-")
    if len(name) > MAX_ROLE_NAME:
        raise UserError(
            f"{name!r} has {len(name)} characters, more than the {MAX_ROLE_NAME} of IAM", field=field, fix="Name a role"
        )
    return name


@dataclass(frozen=True, slots=True)
class RouterNeeds:
    """The account of a service's router, and the ConfigMap that holds the service's routing table."""

    account: str
    config_map: str
    access: RouterAccess = RouterAccess.ACKNOWLEDGE


@dataclass(frozen=True, slots=True)
class ServiceNeeds:
    """What one LLMService needs.

    `role`: name of the IAM role of its pods; None: made from cluster, namespace and name.

    Raises:
        UserError: a name is none, folders overlap, or something that pods need is there without their account.
    """

    key: ServiceKey
    account: str | None = None
    model: BucketPrefix | None = None
    cache: BucketPrefix | None = None
    kms_key_arn: str | None = None
    image_repository_arn: str | None = None
    router: RouterNeeds | None = None
    role: str | None = None

    def __post_init__(self) -> None:
        object_name(self.key.namespace, "namespace")
        object_name(self.key.name, "name")
        if self.account is not None:
            object_name(self.account, self.field("serviceAccountName"))
            if self.account == "default":
                raise UserError(
                    "every pod without another account runs as default",
                    field=self.field("serviceAccountName"),
                    fix="Name one for this service",
                )
        elif self.uses_cloud:
            raise UserError(
                "is missing: the role is given to a service account",
                field=self.field("serviceAccountName"),
                fix="Name one for this service",
            )
        if self.model is not None and self.cache is not None and self.model.overlaps(self.cache):
            raise UserError(
                "overlaps modelUri: the pods could change the model",
                field=self.field("cacheUri"),
                fix="Use another prefix",
            )
        if self.kms_key_arn is not None and self.model is None and self.cache is None:
            raise UserError(
                "is for objects, and there is neither modelUri nor cacheUri",
                field=self.field("kmsKeyArn"),
                fix="Leave it out",
            )
        if self.router is not None:
            object_name(self.router.account, "router")
            object_name(self.router.config_map, "router")
            if self.router.account in (self.account, "default"):
                raise UserError(
                    f"{self.router.account!r} is not the router's alone", field="router", fix="Give it its own account"
                )

    @property
    def uses_cloud(self) -> bool:
        """Whether its pods need a role of the cloud."""
        return self.model is not None or self.cache is not None or self.kms_key_arn is not None

    def field(self, name: str) -> str:
        """The path of a field of `spec.access`, for errors."""
        return f"LLMService/{self.key} spec.access.{name}"


@dataclass(frozen=True, slots=True)
class NodegroupPool:
    """A GPUPool whose nodes are an EKS managed node group.

    With `auto_scaling_group`, the group behind it is scaled: a narrower right than to change the node group's settings.
    """

    pool: str
    nodegroup: str
    auto_scaling_group: str | None = None

    def __post_init__(self) -> None:
        object_name(self.pool, "pool")
        if not re.match(r"[0-9A-Za-z][A-Za-z0-9_-]{0,62}\Z", self.nodegroup, re.ASCII):
            raise UserError(f"{self.nodegroup!r} is no node group", field=f"pool {self.pool}", fix="Give its name")
        if self.auto_scaling_group is not None and not _GROUP.match(self.auto_scaling_group):
            raise UserError(
                f"{self.auto_scaling_group!r} is no name of an Auto Scaling group that a policy can name safely",
                field=f"pool {self.pool}",
                fix="Give its name, not its ARN",
            )


class RightLike(Protocol):
    """One rule of what the operator needs; `actuation.rights.Right` is one."""

    @property
    def group(self) -> str:
        """API group; empty: the core."""

    @property
    def resource(self) -> str:
        """Plural, with its subresource."""

    @property
    def verbs(self) -> Sequence[str]:
        """Verbs."""

    @property
    def names(self) -> Sequence[str]:
        """The only objects it is for; empty: all."""

    @property
    def scope(self) -> str:
        """Services: in the namespaces of services; else in `namespace`, or everywhere."""

    @property
    def namespace(self) -> str:
        """Where it is needed, if in one place."""


@dataclass(frozen=True, slots=True)
class OperatorNeeds:
    """What the operator needs.

    `manifests` are the ServiceAccount, roles and bindings that are to give `rights`, as the caller renders them;
    `services` the namespaces that it looks after, none for all.
    """

    account: ServiceKey
    nodegroups: tuple[NodegroupPool, ...] = ()
    rights: tuple[RightLike, ...] = ()
    manifests: tuple[Mapping[str, Any], ...] = ()
    services: tuple[str, ...] = ()
    role: str | None = None

    def __post_init__(self) -> None:
        object_name(self.account.namespace, "namespace")
        object_name(self.account.name, "serviceAccountName")
        for attribute in ("pool", "nodegroup", "auto_scaling_group"):
            names = [getattr(found, attribute) for found in self.nodegroups if getattr(found, attribute)]
            for name in names:
                if names.count(name) > 1:
                    raise UserError(f"{name!r} is there twice", field=f"pools {attribute}", fix="Name each once")
