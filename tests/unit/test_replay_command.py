"""Records of cycles: they survive the file whole, and `medley replay` decides the same again from them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from medley.api.snapshot_file import Record, dump, load
from medley.cli.main import main
from medley.cycle.decide import decide
from medley.cycle.snapshot import SCHEMA_VERSION, ObjectError, ServiceState, Settings, Snapshot
from medley.model.errors import UserError
from medley.model.objects import (
    CapacityType,
    Mode,
    Offering,
    Pool,
    RoutingMode,
    ScaleTarget,
    Service,
    ServiceKey,
    Slo,
    StaticPoint,
    VariantSpec,
)
from medley.model.samples import HistogramRate, LatencySample, ReadyReplica, ReplicaSample, ServiceSamples
from medley.model.workload import Bucket, Knowledge, Size, Workload
from medley.planning.stabilisation import PastPlan
from medley.planning.steps import VariantState
from medley.profiles.grid import Grid
from medley.profiles.profile import Profile, ProfileKey, Provenance
from medley.profiles.step import StepModel

KEY = ServiceKey("prod", "chat")

# 20 req/s × 1.1 headroom / (7.2 × 0.9) = 3.395: 4 replicas.
REPLICAS = 4


def snapshot(**changes: Any) -> Snapshot:
    base = Snapshot(
        taken_at_s=1_800_000_000.25,
        settings=Settings(),
        services=(
            Service(
                key=KEY,
                uid="u-1",
                generation=3,
                model_name="m",
                slo=Slo(120.0),
                variants=(VariantSpec("x"),),
                mode=Mode.AUTO,
                static_points=(StaticPoint(Size(512, 128), 20.0),),
            ),
        ),
        pools=(
            Pool(
                "x",
                "X",
                1,
                (Offering(CapacityType.ON_DEMAND, 1.0, ("a", "b")),),
                max_nodes=20,
                scale=ScaleTarget("lab.medley.dev/v1alpha1", "NodeGroup", "x"),
                node_selector=(("a", "b"),),
            ),
        ),
        profiles=(
            Profile(
                "m-x",
                ProfileKey("m", "X"),
                Provenance.MEASURED,
                0.9,
                speed=Grid(120.0, None, (128.0, 512.0), (128.0,), ((9.1,), (7.2,))),
            ),
            Profile("m-y", ProfileKey("m", "Y", 2), Provenance.ESTIMATED, 0.7, speed=StepModel(1, 0, 0, 0.1, 41000)),
        ),
        states=(ServiceState(KEY, (VariantState("x", 1, 1, 1, "x"),), (ReadyReplica("x-0"),)),),
    )
    return dataclasses.replace(base, **changes)


def samples(*, age_s: float = 3.5, running: float = 2.0) -> ServiceSamples:
    histogram = HistogramRate((128.0, 512.0, math.inf), (0.5, 1.5, 0.25), 700.0)
    replica = ReplicaSample("x-0", "x", age_s, histogram, histogram, 2.25, running, 0.0, -0.5)
    return ServiceSamples(KEY, 30.0, (replica, ReplicaSample("x-1", "x", fault="no answer")), LatencySample(None, 41.5))


def full() -> Snapshot:
    """Every kind of value that a snapshot can hold."""
    workload = Workload(Knowledge.VALUE, (Bucket(Size(512.5, 128), 2.0, 1),), (128.0,), 0.5, 3.0, 0.05, "why", ("a",))
    return snapshot(
        states=(
            ServiceState(
                KEY,
                (VariantState("x", 3, 2, 4, "x"),),
                (ReadyReplica("x-0", "x", 12.5), ReadyReplica("x-1")),
                RoutingMode.INPUT_RANGE,
                (PastPlan(1.5), PastPlan(2.5, (("x", 2),), 3.25)),
                workload,
            ),
        ),
        samples=(samples(),),
        errors=(ObjectError("GPUPool/y", "spec.gpu", "missing"),),
    )


def written(directory: Path, record: Record) -> Path:
    path = directory / "record.json"
    path.write_text(dump(record))
    return path


def tampered(path: Path, **changes: Any) -> Path:
    """The record with other replicas of its first variant."""
    raw = json.loads(path.read_text())
    raw["decision"]["services"][0]["variants"][0] |= changes
    path.write_text(json.dumps(raw))
    return path


# The file


@pytest.mark.parametrize("given", [snapshot(), full()], ids=["static", "full"])
def test_a_record_survives_the_file_whole(tmp_path: Path, given: Snapshot) -> None:
    record = Record(given, decide(given))
    assert load(written(tmp_path, record)) == record


def test_a_record_without_a_decision_survives_the_file(tmp_path: Path) -> None:
    assert load(written(tmp_path, Record(full()))) == Record(full())


def test_nan_and_infinity_survive_the_file(tmp_path: Path) -> None:
    given = snapshot(samples=(samples(age_s=math.nan, running=-math.inf),))
    path = written(tmp_path, Record(given))
    replica = load(path).snapshot.samples[0].replicas[0]
    assert replica.age_s is not None
    assert math.isnan(replica.age_s)
    assert replica.running == -math.inf
    assert replica.prompt is not None
    assert replica.prompt.edges == (128.0, 512.0, math.inf)
    # The file is JSON to the letter, which knows neither.
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_a_second_dump_is_the_same_text(tmp_path: Path) -> None:
    text = dump(Record(full(), decide(full())))
    path = tmp_path / "record.json"
    path.write_text(text)
    assert dump(load(path)) == text


# The command


def test_replay_decides_the_same_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = snapshot()
    path = written(tmp_path, Record(given, decide(given)))
    assert main(["replay", str(path), "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["sameAsRecorded"] is True
    [only] = answer["services"]
    assert (only["namespace"], only["name"], only["mode"], only["act"]) == ("prod", "chat", "Auto", True)
    assert only["replicas"] == {"x": REPLICAS}
    assert only["planned"] == {"x": REPLICAS}
    assert only["costPerHour"] == pytest.approx(4.0)
    assert answer["pools"] == {"x": REPLICAS}
    assert answer["totalCostPerHour"] == pytest.approx(4.0)


def test_replay_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = snapshot()
    assert main(["replay", str(written(tmp_path, Record(given, decide(given))))]) == 0
    out = capsys.readouterr().out
    assert "prod/chat (Auto)" in out
    assert "the same as recorded" in out
    assert "NOT" not in out


def test_replay_of_faulty_samples_decides_the_same_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = dataclasses.replace(snapshot().services[0], static_points=None)
    given = snapshot(services=(measured,), samples=(samples(age_s=math.nan, running=math.inf),))
    path = written(tmp_path, Record(given, decide(given)))
    assert main(["replay", str(path), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["sameAsRecorded"] is True


def test_replay_without_a_recorded_decision_has_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, Record(snapshot()))
    assert main(["replay", str(path), "-o", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["sameAsRecorded"] is None
    assert answer["services"][0]["replicas"] == {"x": REPLICAS}
    assert main(["replay", str(path)]) == 0
    assert "as recorded" not in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{"desired": 9}, {"planned": 9}, {"name": "z"}])
def test_replay_of_another_decision_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any]
) -> None:
    path = tampered(written(tmp_path, Record(snapshot(), decide(snapshot()))), **changes)
    assert main(["replay", str(path), "-o", "json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["sameAsRecorded"] is False
    assert answer["services"][0]["replicas"] == {"x": REPLICAS}
    assert main(["replay", str(path)]) == 1
    assert "NOT the same as recorded" in capsys.readouterr().out


def test_replay_of_another_snapshot_than_decided_from_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = snapshot()
    busier = dataclasses.replace(given.services[0], static_points=(StaticPoint(Size(512, 128), 40.0),))
    path = written(tmp_path, Record(snapshot(services=(busier,)), decide(given)))
    assert main(["replay", str(path)]) == 1
    assert "NOT the same" in capsys.readouterr().out


def test_what_a_clock_measured_is_not_compared(tmp_path: Path) -> None:
    path = written(tmp_path, Record(snapshot(), decide(snapshot())))
    raw = json.loads(path.read_text())
    raw["decision"]["services"][0]["allocation"]["solve_ms"] = 12345.0
    path.write_text(json.dumps(raw))
    assert main(["replay", str(path)]) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no recorded snapshot"),
        ("{", "is no recorded snapshot"),
        ("[]", "is no recorded snapshot"),
        ("{}", "is no recorded snapshot"),
        ('{"snapshot": null}', "is no recorded snapshot"),
        (f'{{"snapshot": {{"schema_version": {SCHEMA_VERSION}}}}}', "is no valid snapshot"),
        ('{"snapshot": {"schema_version": 999}}', f"has schema version 999, this Medley reads {SCHEMA_VERSION}"),
        ("\N{REPLACEMENT CHARACTER}", "is no recorded snapshot"),
    ],
)
def test_a_broken_file_exits_2_and_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    assert main(["replay", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "broken.json" in captured.err
    assert says in captured.err


def test_a_missing_file_and_bytes_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(tmp_path / "absent.json")]) == 2
    assert "absent.json" in capsys.readouterr().err
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    assert main(["replay", str(tmp_path / "bytes.json")]) == 2
    assert "bytes.json" in capsys.readouterr().err


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 0, None])
def test_another_schema_version_is_refused_with_what_to_do(tmp_path: Path, version: int | None) -> None:
    path = written(tmp_path, Record(full(), decide(full())))
    raw = json.loads(path.read_text())
    raw["snapshot"]["schema_version"] = version
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match="Replay it with the version that wrote it"):
        load(path)
    assert main(["replay", str(path)]) == 2


def test_a_field_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, Record(snapshot()))
    raw = json.loads(path.read_text())
    raw["snapshot"]["pools"][0]["gpus_per_node"] = "many"
    path.write_text(json.dumps(raw))
    with pytest.raises(UserError, match="gpus_per_node"):
        load(path)
