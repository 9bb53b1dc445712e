"""Shows AccessPolicies at work: a role of a service is widened by hand, and found, blamed, repaired, proved, written.

Real parts: the API server with its RBAC authorizer, `medley access` as a process under the rights of an installation.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from medley.actuation.access_rights import GRANTABLE_RIGHTS, LOOKER_RIGHTS, WRITER_RIGHTS
from medley.actuation.cluster_api import ClusterApi, Mirror, PatchType
from medley.actuation.roles import ROOT, subject_review
from medley.actuation.routing import config_map_name
from medley.api.crds import ACCESS_KIND
from medley.lab.account import grant, kubeconfig_for, put
from medley.lab.processes import SupervisedProcess
from medley.lab.scene import apply
from medley.model.errors import TransientError
from medley.model.objects import API_VERSION, ServiceKey
from medley.policy.generate import Kubernetes, RouterNeeds, ServiceNeeds
from medley.policy.rbac.request import Request, service_account

Json = dict[str, Any]
WRITER_NAMESPACE, WRITER = "medley-system", "medley-policy-writer"
POLICY, ROUTER = "router", "router"
SETTLED_S = 30.0


class AccessShow:
    """A service's router with its generated role, an AccessPolicy in mode Enforce, and the policy writer.

    Args:
        api: the administrator's client.
        kubeconfig: the administrator's.
        directory: for the writer's kubeconfig and log.
        service: which exists.
        interval_s: between the writer's looks.
        arguments: more of `medley access`.
    """

    def __init__(
        self,
        api: ClusterApi,
        kubeconfig: Path,
        directory: Path,
        service: ServiceKey,
        interval_s: float = 1.0,
        arguments: Sequence[str] = (),
    ) -> None:
        self._api = api
        self._kubeconfig = kubeconfig
        self._directory = directory
        self._service = service
        self._interval_s = interval_s
        self._arguments = tuple(arguments)
        self._seen: list[tuple[float, Json]] = []
        self._process: SupervisedProcess | None = None
        self._mirror: Mirror | None = None
        self._role = ""
        self._rules: list[Json] = []
        self._widened_s: float | None = None

    def __enter__(self) -> AccessShow:
        place = self._service.namespace
        rights = (*LOOKER_RIGHTS, *WRITER_RIGHTS, *GRANTABLE_RIGHTS)
        grant(self._api, WRITER_NAMESPACE, WRITER, rights, [place])
        own = self._directory / "policy-writer.kubeconfig"
        kubeconfig_for(self._api, self._kubeconfig, own, WRITER_NAMESPACE, WRITER)
        router = RouterNeeds(ROUTER, self.table)
        (part,) = Kubernetes().service(ServiceNeeds(self._service, router=router))
        assert isinstance(part.document, list)
        for item in part.document:
            put(self._api, item)
            if item["kind"] == "Role":
                self._role, self._rules = item["metadata"]["name"], item["rules"]
        spec = {"generated": {"service": self._service.name, "routerAccount": ROUTER}, "mode": "Enforce"}
        metadata = {"name": POLICY, "namespace": place}
        apply(self._api, {"apiVersion": API_VERSION, "kind": ACCESS_KIND.kind, "metadata": metadata, "spec": spec})
        path = f"/apis/{API_VERSION}/namespaces/{place}/{ACCESS_KIND.plural}"
        self._mirror = Mirror(self._api, path, on_object=self._saw, on_gone=lambda _: None)
        self._mirror.start()
        command: list[str | Path] = [
            Path(sys.executable), "-m", "medley.cli.main", "access", "--enforce",
            "--kubeconfig", str(own),
            "--namespaces", place,
            "--interval", str(self._interval_s),
            *self._arguments,
        ]  # fmt: skip
        self._process = SupervisedProcess.start("access", command, log=self._directory / "access.log")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._mirror is not None:
            self._mirror.stop()
        if self._process is not None:
            self._process.stop(grace_s=5)

    @property
    def table(self) -> str:
        """The ConfigMap that the router reads."""
        return config_map_name(self._service.name)

    def widen(self) -> None:
        """What somebody does by hand: the role may read every Secret of the namespace, too."""
        extra = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}
        path = f"{ROOT}/namespaces/{self._service.namespace}/roles/{self._role}"
        self._widened_s = time.monotonic()
        self._api.patch(path, {"rules": [*self._rules, extra]}, PatchType.MERGE)

    def wait(self, verdict: str, reason: str = "", timeout_s: float = SETTLED_S) -> Json:
        """The first status with this verdict (and this reason of Written), since the role was widened if it was.

        Raises:
            TransientError: there is none in time; the message has the writer's log.
        """
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for _, status in self._since():
                if status.get("verdict") == verdict and reason in ("", _reason(status)):
                    return status
            time.sleep(0.02)
        log = (self._directory / "access.log").read_text()
        raise TransientError(f"no verdict {verdict} {reason} within {timeout_s:g} s:\n{log}")

    def detected_s(self) -> float | None:
        """From the change by hand to the verdict that it is wrong, in seconds; None: not yet."""
        for at_s, status in self._since():
            if status.get("verdict") == "Violated" and self._widened_s is not None:
                return at_s - self._widened_s
        return None

    def rules(self) -> list[Json]:
        """Of the role, as it is."""
        path = f"{ROOT}/namespaces/{self._service.namespace}/roles/{self._role}"
        return list(self._api.get(path).get("rules") or [])

    def allowed(self, verb: str, resource: str, name: str = "") -> bool:
        """Whether the API server lets the router do it."""
        caller = service_account(self._service.namespace, ROUTER)
        request = Request(caller, verb, "", resource, "", name, self._service.namespace)
        answer = self._api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", subject_review(request))
        return bool(answer["status"].get("allowed"))

    def _since(self) -> list[tuple[float, Json]]:
        return [found for found in tuple(self._seen) if found[0] >= (self._widened_s or 0.0)]

    def _saw(self, item: Json) -> None:
        if item["metadata"]["name"] == POLICY and item.get("status"):
            self._seen.append((time.monotonic(), item["status"]))


def story(show: AccessShow, say: Callable[[str], None]) -> Json:
    """Widen, and tell what happens until the floor was tried after the repair; what `make demo-access` prints last.

    Raises:
        TransientError: something of it did not happen in time.
    """
    show.wait("Satisfied")
    say("access: the router's Role is what Medley generates; both engines proved it")
    show.widen()
    say("access: somebody lets the Role read Secrets, by hand")
    broken = show.wait("Violated", "Written")
    detected_s = show.detected_s()
    assert detected_s is not None
    for line in told(broken, detected_s):
        say(line)
    after = show.wait("Satisfied", "Checked")
    kept = show.allowed("get", "configmaps", show.table)
    denied = not show.allowed("get", "secrets", "any")
    say(
        f"access: asked by real requests, the router {'still reads' if kept else 'NO LONGER READS'} its table and "
        f"{'no longer reads' if denied else 'STILL READS'} Secrets"
    )
    return {
        "detected_s": round(detected_s, 3),
        "verdict": broken["repair"]["outcome"],
        "edits": len(broken["repair"]["edits"]),
        "proofs": after["proof"]["rules"],
        "written": bool(kept and denied and after["previous"]["checked"]),
    }


def told(status: Json, detected_s: float) -> Iterator[str]:
    """Witness, blame, edits and proof of a status, for people."""
    first = status["counterexamples"][0]
    yield f"access: found after {detected_s:.1f} s: {first['side']} {first['rule']} is broken"
    yield f"  witness  {first['request']}"
    for line in first.get("blamed") or []:
        yield f"  blamed   {line}"
    for line in status["repair"]["edits"]:
        yield f"  repair   {line}"
    proof = status["proof"]
    yield f"  proof    {proof['rules']} rules by engines {' and '.join(proof['engines'])}, {proof['digest'][:19]}…"


def _reason(status: Json) -> str:
    return next((item["reason"] for item in status.get("conditions") or [] if item["type"] == "Written"), "")
