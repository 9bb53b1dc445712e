from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from medley.api.convert import Resources
from medley.cycle.decide import decide
from medley.cycle.decision import Decision
from medley.cycle.snapshot import Snapshot
from medley.telemetry.access_exporter import AccessExporter
from medley.telemetry.exporter import Exporter
from snapshots import snapshot, whole

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def samples(exporter: Exporter) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exporter.text().decode())
        for sample in family.samples
    }


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


CHAT = {"namespace": "default", "service": "chat"}


def cycle(chat: Resources, rate_rps: float | None) -> tuple[Snapshot, Decision]:
    running = {"l4": 2}
    seen = whole(chat, running, rate_rps) if rate_rps is not None else None
    snap = snapshot(chat, running=running, samples=seen, past_rps=rate_rps)
    return snap, decide(snap)


def test_before_a_cycle_there_is_nothing_of_services() -> None:
    exporter = Exporter()
    found = samples(exporter)
    assert not [name for name, _ in found if "service" in name or "replicas" in name]
    assert found["medley_cycles_total", labelled(result="done")] == 0
    assert found["medley_leads", ()] == 0
    exporter.leads()
    assert samples(exporter)["medley_leads", ()] == 1


def test_the_last_decision_is_what_is_exported(chat: Resources) -> None:
    exporter = Exporter()
    snap, decision = cycle(chat, 8.0)
    exporter.cycle(0.2, snap, decision)
    found, (service,) = samples(exporter), decision.services
    assert found["medley_service_demand_requests_per_second", labelled(**CHAT)] == service.workload.rate_rps
    assert found["medley_service_cost_dollars_per_hour", labelled(**CHAT)] == service.cost_per_hour
    single = found["medley_service_best_single_cost_dollars_per_hour", labelled(**CHAT)]
    assert single == service.best_single_per_hour
    assert found["medley_service_held", labelled(**CHAT)] == 0
    assert found["medley_service_condition", labelled(**CHAT, condition="WorkloadKnown", status="True")] == 1
    for variant in service.variants:
        of = labelled(**CHAT, variant=variant.name, gpu=variant.gpu, pool=variant.pool)
        assert found["medley_replicas_desired", of] == variant.desired
        assert found["medley_replicas_planned", of] == variant.planned
        assert found["medley_replicas_ready", of] == (2 if variant.name == "l4" else 0)
    assert found["medley_cycles_total", labelled(result="done")] == 1
    assert found["medley_cycle_duration_seconds_sum", ()] == 0.2


def test_unknown_is_no_sample_and_a_failed_cycle_leaves_the_last_one(chat: Resources) -> None:
    exporter = Exporter()
    snap, decision = cycle(chat, None)
    exporter.cycle(0.1, snap, decision)
    found = samples(exporter)
    assert ("medley_service_demand_requests_per_second", labelled(**CHAT)) not in found
    assert found["medley_service_held", labelled(**CHAT)] == 1
    exporter.cycle(0.1, snap, None)
    again = samples(exporter)
    assert again["medley_cycles_total", labelled(result="failed")] == 1
    assert again["medley_service_held", labelled(**CHAT)] == 1
    exporter.cycle(0.1, snap, replace(decision, services=()))
    assert ("medley_service_held", labelled(**CHAT)) not in samples(exporter), "gone with its service"


def test_the_reference_lists_every_metric_with_its_labels(chat: Resources) -> None:
    exporter = Exporter()
    exporter.cycle(0.2, *cycle(chat, 8.0))
    listed = dict(re.findall(r"^\| `(medley_\w+)` \| ([^|]*) \|", PAGE.read_text(), re.MULTILINE))
    exported: dict[str, set[str]] = {}
    access = AccessExporter()
    access.look(0.2, {"Satisfied": 1})
    access.event("Written")
    for family in text_string_to_metric_families((exporter.text() + access.text()).decode()):
        for sample in family.samples:
            if not sample.name.endswith(("_created", "_bucket", "_sum")):
                exported[sample.name.removesuffix("_count")] = set(sample.labels)
    assert {name: set(re.findall(r"\w+", labels)) for name, labels in listed.items()} == exported
