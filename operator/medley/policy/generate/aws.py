"""IAM policies for EKS: identity policies, trust policies, image pull.

Sources of what is needed: the Service Authorization Reference (actions, resource types and condition keys of s3, kms,
ecr, eks, autoscaling, sts); EKS User Guide, "IAM roles for service accounts" (sub and aud) and "Create IAM role with
trust policy required by EKS Pod Identity" (service principal, both actions, the session tags as conditions); S3 User
Guide on `s3:prefix`; KMS Developer Guide on `kms:ViaService`; ECR User Guide on pulling.

Each document and each spec is written from the inputs by its own function: a slip in one is not copied to the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from medley.model.errors import UserError
from medley.model.objects import ServiceKey
from medley.policy.generate.iam_spec import Access, Bound, spec_of
from medley.policy.generate.inputs import (
    BucketPrefix,
    ClusterEnvironment,
    NodegroupPool,
    OperatorNeeds,
    ServiceNeeds,
    Trust,
    own_arn,
    role_name,
)
from medley.policy.generate.part import Json, Part, PartName, yaml_text
from medley.policy.iam.document import VARIABLES_VERSION
from medley.policy.iam.render import SizeLimit
from medley.policy.kind import PolicyKind

AUDIENCE = "sts.amazonaws.com"
POD_IDENTITY_SERVICE = "pods.eks.amazonaws.com"
ROLE_ANNOTATION = "eks.amazonaws.com/role-arn"
POOL_TAG = "medley.dev/pool"
"""Tag of a node group that Medley may change: the name of its GPUPool."""
ESCALATION, CREDENTIALS, EXFILTRATION = "aws-escalation", "aws-credentials", "aws-exfiltration"
_WRITES = (
    "s3:Put*", "s3:Delete*", "s3:Update*", "s3:Restore*", "s3:Replicate*", "s3:Initiate*", "s3:Abort*", "s3:Bypass*",
    "s3:ObjectOwner*",
)  # fmt: skip
"""What changes an object, its versions, tags, lock or owner: the actions of S3 on objects but Get… and List…."""
_PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


class Aws:
    """Generates for one EKS cluster."""

    def __init__(self, environment: ClusterEnvironment) -> None:
        self._at = environment

    def service(self, needs: ServiceNeeds) -> tuple[Part, ...]:
        """The policy and the trust policy of the pods' role, and image pull for the nodes' role."""
        owner, parts = f"LLMService/{needs.key}", []
        if needs.kms_key_arn is not None:
            own_arn(needs.kms_key_arn, "kms", self._at, needs.field("kmsKeyArn"))
        if needs.uses_cloud:
            role = self._service_role(needs)
            outer = tuple(self._outer(needs))
            policy = _document(self._pod_statements(needs)), spec_of(self._pod_accesses(needs))
            ceilings = (ESCALATION, CREDENTIALS)
            parts.append(_identity(PartName.POD_POLICY, owner, *policy, ceilings=ceilings, role=role, outer=outer))
            assert needs.account is not None
            account = ServiceKey(needs.key.namespace, needs.account)
            parts.append(self._trust(PartName.POD_TRUST, owner, account, role))
        if needs.image_repository_arn is not None:
            field = needs.field("imageRepositoryArn")
            repository = own_arn(needs.image_repository_arn, "ecr", self._at, field)
            spec = spec_of(self._pull_accesses(repository))
            document = _document(self._pull_statements(repository))
            parts.append(_identity(PartName.IMAGE_PULL, owner, document, spec, ceilings=(ESCALATION,), role=""))
        return tuple(parts)

    def operator(self, needs: OperatorNeeds) -> tuple[Part, ...]:
        """The policy and the trust policy of the operator's role, if it scales node groups."""
        if not needs.nodegroups:
            return ()
        role, pools = self._operator_role(needs), needs.nodegroups
        policy = _document(self._operator_statements(pools)), spec_of(self._operator_accesses(pools))
        ceilings = (ESCALATION, CREDENTIALS, EXFILTRATION)
        return (
            _identity(PartName.OPERATOR_POLICY, "operator", *policy, ceilings=ceilings, role=role),
            self._trust(PartName.OPERATOR_TRUST, "operator", needs.account, role),
        )

    def annotations(self, needs: ServiceNeeds | OperatorNeeds) -> Mapping[str, str]:
        """The role for IRSA; Pod Identity finds it by an association, and wants nothing here."""
        if self._at.trust is not Trust.IRSA:
            return {}
        if isinstance(needs, ServiceNeeds):
            return {ROLE_ANNOTATION: self.role_arn(self._service_role(needs))} if needs.uses_cloud else {}
        return {ROLE_ANNOTATION: self.role_arn(self._operator_role(needs))} if needs.nodegroups else {}

    def neighbours_ceiling(self, needs: ServiceNeeds, others: Iterable[ServiceNeeds]) -> str:
        """A spec whose ceiling shuts what other services keep to themselves; empty if there is nothing.

        For a user's own statements: what is generated reaches none of it anyway. Folders that a service shares with
        another, such as the same model, are not shut.
        """
        own = [place for place in (needs.model, needs.cache) if place is not None]
        rules: list[Json] = []
        for other in others:
            if other.key == needs.key:
                continue
            places = [place for place in (other.model, other.cache) if place is not None]
            apart = [self._objects_arn(place) for place in places if not any(place.overlaps(mine) for mine in own)]
            if apart:
                reason = f"they are LLMService/{other.key}'s"
                rule_id = f"objects-of-{other.key.namespace}-{other.key.name}"
                rules.append({"id": rule_id, "action": "s3:*", "resource": apart, "reason": reason})
        return yaml_text([{"ceiling": rules}]) if rules else ""

    def role_arn(self, role: str) -> str:
        """The ARN of a role of this account."""
        return f"arn:{self._at.partition}:iam::{self._at.account}:role/{role}"

    def _service_role(self, needs: ServiceNeeds) -> str:
        # No name of a namespace or service has an underscore: no two services share a role.
        default = f"medley_{self._at.cluster}_{needs.key.namespace}_{needs.key.name}"
        return role_name(needs.role or default, f"LLMService/{needs.key}: the role of its pods")

    def _operator_role(self, needs: OperatorNeeds) -> str:
        default = f"medley-operator_{self._at.cluster}_{needs.account.namespace}_{needs.account.name}"
        return role_name(needs.role or default, "the role of the operator")

    def _bucket_arn(self, bucket: str) -> str:
        return f"arn:{self._at.partition}:s3:::{bucket}"

    def _objects_arn(self, place: BucketPrefix) -> str:
        return f"{self._bucket_arn(place.bucket)}/{place.prefix}/*"

    # The pods of a service.

    def _pod_statements(self, needs: ServiceNeeds) -> list[Json]:
        # Bucket ARNs have neither account nor region: a bucket of the same name could be made by somebody else.
        here = {"aws:ResourceAccount": self._at.account, "aws:RequestedRegion": self._at.region}
        out = []
        folders: dict[str, list[BucketPrefix]] = {}
        for sid, actions, place in (
            ("ReadModel", ["s3:GetObject"], needs.model),
            ("UseCache", ["s3:GetObject", "s3:PutObject"], needs.cache),
        ):
            if place is not None:
                folders.setdefault(place.bucket, []).append(place)
                out.append(_allow(sid, actions, self._objects_arn(place), {"StringEquals": here}))
        for number, (bucket, places) in enumerate(folders.items()):
            prefixes = [f"{place.prefix}/*" for place in places]
            condition = {"StringEquals": here, "StringLike": {"s3:prefix": prefixes}}
            out.append(_allow(f"ListFolders{number + 1}", ["s3:ListBucket"], self._bucket_arn(bucket), condition))
        if needs.kms_key_arn is not None:
            actions = ["kms:Decrypt", *(["kms:GenerateDataKey"] if needs.cache is not None else [])]
            via = {"StringEquals": {"kms:ViaService": list(self._s3_names())}}
            out.append(_allow("UseKeyThroughS3", actions, needs.kms_key_arn, via))
        return out

    def _pod_accesses(self, needs: ServiceNeeds) -> list[Access]:
        own = (Bound("aws:ResourceAccount", (self._at.account,)), Bound("aws:RequestedRegion", (self._at.region,)))
        out = []
        prefixes: dict[str, tuple[str, ...]] = {}
        for place in (needs.model, needs.cache):
            if place is not None:
                prefixes[place.bucket] = (*prefixes.get(place.bucket, ()), place.prefix)
        if needs.model is not None:
            objects = f"arn:{self._at.partition}:s3:::{needs.model.bucket}/{needs.model.prefix}/*"
            out.append(Access("read-model", ("s3:GetObject",), (objects,), own, "pods load the weights"))
        if needs.cache is not None:
            objects = f"arn:{self._at.partition}:s3:::{needs.cache.bucket}/{needs.cache.prefix}/*"
            out.append(
                Access("use-cache", ("s3:GetObject", "s3:PutObject"), (objects,), own, "pods keep what they compiled")
            )
        for bucket, folders in prefixes.items():
            listed = Bound(
                "s3:prefix",
                tuple(f"{folder}/*" for folder in folders),
                "StringLike",
                tuple(f"{folder}/{inner}" for folder in folders for inner in ("", "a-folder/")),
            )
            arn = f"arn:{self._at.partition}:s3:::{bucket}"
            out.append(
                Access(f"list-{bucket}", ("s3:ListBucket",), (arn,), (*own, listed), "pods see which files there are")
            )
        if needs.kms_key_arn is not None:
            actions = ("kms:Decrypt",) if needs.cache is None else ("kms:Decrypt", "kms:GenerateDataKey")
            via = Bound("kms:ViaService", self._s3_names())
            out.append(Access("use-key", actions, (needs.kms_key_arn,), (via,), "the objects are encrypted with it"))
        return out

    def _outer(self, needs: ServiceNeeds) -> list[Json]:
        """What a user's own statements may not give either."""
        identities = ["iam:*", "organizations:*", "account:*", "sso:*", "identitystore:*", "rolesanywhere:*"]
        rules: list[Json] = [{"id": "identities", "action": identities, "reason": "pods manage no identities"}]
        if needs.model is not None:
            rules.append(
                {
                    "id": "model-changed",
                    "action": list(_WRITES),
                    "resource": [f"arn:{self._at.partition}:s3:::{needs.model.bucket}/{needs.model.prefix}/*"],
                    "reason": "whoever changes the weights decides what every replica runs",
                }
            )
        return rules

    def _s3_names(self) -> tuple[str, ...]:
        """S3 as `kms:ViaService` has it. In China its name with the domain of China is taken as well as without."""
        name = f"s3.{self._at.region}.amazonaws.com"
        return (name, f"{name}.cn") if self._at.partition == "aws-cn" else (name,)

    # Image pull, for the role of the nodes.

    def _pull_statements(self, repository: str) -> list[Json]:
        here = {"StringEquals": {"aws:RequestedRegion": self._at.region}}
        return [
            _allow("LogInToRegistry", ["ecr:GetAuthorizationToken"], "*", here),
            _allow("PullImage", list(_PULL), repository),
        ]

    def _pull_accesses(self, repository: str) -> list[Access]:
        region = Bound("aws:RequestedRegion", (self._at.region,))
        return [
            Access("log-in", ("ecr:GetAuthorizationToken",), bounds=(region,), why="it has no resource to name"),
            Access(
                "pull",
                ("ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage", "ecr:BatchCheckLayerAvailability"),
                (repository,),
                why="nodes fetch the engine's image",
            ),
        ]

    # The operator.

    def _operator_statements(self, pools: tuple[NodegroupPool, ...]) -> list[Json]:
        groups = [self._at.arn("eks", f"nodegroup/{self._at.cluster}/{pool.nodegroup}/*") for pool in pools]
        out = [_allow("ReadNodegroups", ["eks:DescribeNodegroup"], groups)]
        if any(pool.auto_scaling_group for pool in pools):
            here = {"StringEquals": {"aws:RequestedRegion": self._at.region}}
            out.append(_allow("ReadAutoScalingGroups", ["autoscaling:DescribeAutoScalingGroups"], "*", here))
        for number, (pool, group) in enumerate(zip(pools, groups, strict=True)):
            if pool.auto_scaling_group:
                name = f"autoScalingGroup:*:autoScalingGroupName/{pool.auto_scaling_group}"
                tags = {"eks:cluster-name": self._at.cluster, "eks:nodegroup-name": pool.nodegroup}
                action, arn = "autoscaling:SetDesiredCapacity", self._at.arn("autoscaling", name)
            else:
                tags, action, arn = {POOL_TAG: pool.pool}, "eks:UpdateNodegroupConfig", group
            condition = {"StringEquals": {f"aws:ResourceTag/{tag}": value for tag, value in tags.items()}}
            out.append(_allow(f"ScalePool{number + 1}", [action], arn, condition))
        return out

    def _operator_accesses(self, pools: tuple[NodegroupPool, ...]) -> list[Access]:
        at = self._at
        eks = f"arn:{at.partition}:eks:{at.region}:{at.account}:nodegroup/{at.cluster}"
        scaling = f"arn:{at.partition}:autoscaling:{at.region}:{at.account}"
        out = [
            Access(
                "read-nodegroups",
                ("eks:DescribeNodegroup",),
                tuple(f"{eks}/{pool.nodegroup}/*" for pool in pools),
                why="sees how many nodes there are",
            )
        ]
        behind = [pool for pool in pools if pool.auto_scaling_group is not None]
        if behind:
            region = Bound("aws:RequestedRegion", (at.region,))
            why = "it has no resource to name"
            out.append(Access("read-groups", ("autoscaling:DescribeAutoScalingGroups",), bounds=(region,), why=why))
        for pool in behind:
            arn = f"{scaling}:autoScalingGroup:*:autoScalingGroupName/{pool.auto_scaling_group}"
            tags = (
                Bound("aws:ResourceTag/eks:cluster-name", (at.cluster,)),
                Bound("aws:ResourceTag/eks:nodegroup-name", (pool.nodegroup,)),
            )
            why = "sets the number of nodes"
            out.append(Access(f"scale-{pool.pool}", ("autoscaling:SetDesiredCapacity",), (arn,), tags, why))
        for pool in pools:
            if pool not in behind:
                arn = f"{eks}/{pool.nodegroup}/*"
                tag = (Bound(f"aws:ResourceTag/{POOL_TAG}", (pool.pool,)),)
                why = "sets the number of nodes"
                out.append(Access(f"scale-{pool.pool}", ("eks:UpdateNodegroupConfig",), (arn,), tag, why))
        return out

    # Who may take a role on.

    def _trust(self, name: PartName, owner: str, account: ServiceKey, role: str) -> Part:
        if self._at.trust is Trust.IRSA:
            document, spec = self._irsa_statement(account), self._irsa_spec(account, role)
        else:
            document, spec = self._pod_identity_statement(account), self._pod_identity_spec(account, role)
        return Part(
            name,
            owner,
            PolicyKind.IAM_TRUST,
            _document([document]),
            spec,
            ceilings=(ESCALATION,),
            role=role,
            limit=SizeLimit.TRUST_POLICY,
        )

    def _provider(self) -> str:
        if self._at.oidc_issuer is None:
            raise UserError("is missing", field="oidcIssuer", fix="Give it, or use the trust pod-identity")
        return self._at.oidc_issuer

    def _irsa_statement(self, account: ServiceKey) -> Json:
        issuer = self._provider()
        return {
            "Sid": "OneServiceAccount",
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:{self._at.partition}:iam::{self._at.account}:oidc-provider/{issuer}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {
                    f"{issuer}:sub": f"system:serviceaccount:{account.namespace}:{account.name}",
                    f"{issuer}:aud": AUDIENCE,
                }
            },
        }

    def _irsa_spec(self, account: ServiceKey, role: str) -> Json:
        at, issuer = self._at, self._provider()
        subject = ":".join(("system", "serviceaccount", account.namespace, account.name))
        bounds = (Bound(f"{issuer}:sub", (subject,)), Bound(f"{issuer}:aud", ("sts.amazonaws.com",)))
        take = Access("take-role", ("sts:AssumeRoleWithWebIdentity",), bounds=bounds, why=f"pods take on {role}")
        return spec_of([take], {"Federated": f"arn:{at.partition}:iam::{at.account}:oidc-provider/{issuer}"})

    def _pod_identity_statement(self, account: ServiceKey) -> Json:
        # EKS sets these tags when it assumes the role: without them any association of the account could use it.
        tags = {
            "eks-cluster-arn": self._at.cluster_arn,
            "kubernetes-namespace": account.namespace,
            "kubernetes-service-account": account.name,
        }
        return {
            "Sid": "OneServiceAccount",
            "Effect": "Allow",
            "Principal": {"Service": POD_IDENTITY_SERVICE},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {"StringEquals": {f"aws:RequestTag/{tag}": value for tag, value in tags.items()}},
        }

    def _pod_identity_spec(self, account: ServiceKey, role: str) -> Json:
        at = self._at
        cluster = f"arn:{at.partition}:eks:{at.region}:{at.account}:cluster/{at.cluster}"
        bounds = (
            Bound("aws:RequestTag/kubernetes-service-account", (account.name,)),
            Bound("aws:RequestTag/kubernetes-namespace", (account.namespace,)),
            Bound("aws:RequestTag/eks-cluster-arn", (cluster,)),
        )
        take = Access("take-role", ("sts:AssumeRole", "sts:TagSession"), bounds=bounds, why=f"pods take on {role}")
        return spec_of([take], {"Service": "pods.eks.amazonaws.com"})


def _identity(
    name: PartName,
    owner: str,
    document: Json,
    spec: Json,
    *,
    ceilings: tuple[str, ...],
    role: str,
    outer: tuple[Json, ...] = (),
) -> Part:
    kind, limit = PolicyKind.IAM_IDENTITY, SizeLimit.ROLE_INLINE_POLICY
    return Part(name, owner, kind, document, spec, outer, ceilings, role, limit)


def _document(statements: list[Json]) -> Json:
    return {"Version": VARIABLES_VERSION, "Statement": statements}


def _allow(sid: str, actions: list[str], resource: str | list[str], condition: Any = None) -> Json:
    out: Json = {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource}
    if condition is not None:
        out["Condition"] = condition
    return out
