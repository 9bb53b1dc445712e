from __future__ import annotations

import pytest

from medley.profiles.catalogue import INSTANCE_COLUMNS, Cloud, InstanceType, instance_types, parse_instance_types
from medley.profiles.gpu import gpus

GOOD = {
    "instance_type": "x1.large",
    "cloud": "AWS",
    "gpu": "L4",
    "gpus_per_node": "1",
    "vcpus": "4",
    "memory_gib": "16",
    "price_per_hour": "0.8",
    "spot_price_per_hour": "0.3",
    "region": "us-east-1",
    "source": "list",
    "date": "2026-07-20",
}


def table(*changes: dict[str, str]) -> str:
    rows = [",".join({**GOOD, **change}.values()) for change in changes or ({},)]
    return "\n".join([",".join(INSTANCE_COLUMNS), *rows])


def read(*changes: dict[str, str]) -> dict[str, InstanceType]:
    return parse_instance_types(table(*changes), known_gpus=gpus(), file="mine.csv")


@pytest.mark.parametrize(
    ("name", "cloud", "gpu", "gpus_per_node", "vcpus", "memory_gib", "price"),
    [
        ("g4dn.xlarge", Cloud.AWS, "T4", 1, 4, 16, 0.526),
        ("g6.xlarge", Cloud.AWS, "L4", 1, 4, 16, 0.8048),
        ("g5.xlarge", Cloud.AWS, "A10G", 1, 4, 16, 1.006),
        ("g5.48xlarge", Cloud.AWS, "A10G", 8, 192, 768, 16.288),
        ("g6e.xlarge", Cloud.AWS, "L40S", 1, 4, 32, 1.861),
        ("g7e.2xlarge", Cloud.AWS, "RTX-PRO-6000", 1, 8, 64, 3.363),
        ("p4d.24xlarge", Cloud.AWS, "A100-40", 8, 96, 1152, 21.96),
        ("p4de.24xlarge", Cloud.AWS, "A100-80", 8, 96, 1152, 27.45),
        ("p5.4xlarge", Cloud.AWS, "H100", 1, 16, 256, 6.88),
        ("p5.48xlarge", Cloud.AWS, "H100", 8, 192, 2048, 55.04),
        ("p5en.48xlarge", Cloud.AWS, "H200", 8, 192, 2048, 63.30),
        ("p6-b200.48xlarge", Cloud.AWS, "B200", 8, 192, 2048, 113.93),
        ("p6-b300.48xlarge", Cloud.AWS, "B300", 8, 192, 4096, 142.42),
        ("Standard_NC4as_T4_v3", Cloud.AZURE, "T4", 1, 4, 28, 0.526),
        ("Standard_NV36ads_A10_v5", Cloud.AZURE, "A10", 1, 36, 440, 3.20),
        ("Standard_NC24ads_A100_v4", Cloud.AZURE, "A100-80-PCIe", 1, 24, 220, 3.673),
        ("Standard_ND96isr_H100_v5", Cloud.AZURE, "H100", 8, 96, 1900, 98.32),
        ("Standard_ND96isr_H200_v5", Cloud.AZURE, "H200", 8, 96, 1850, 84.80),
        ("Standard_ND96isr_MI300X_v5", Cloud.AZURE, "MI300X", 8, 96, 1850, 48.00),
        ("g2-standard-4", Cloud.GCP, "L4", 1, 4, 16, 0.7045),
        ("a2-highgpu-1g", Cloud.GCP, "A100-40", 1, 12, 85, 3.673),
        ("a2-ultragpu-1g", Cloud.GCP, "A100-80", 1, 12, 170, 5.524),
        ("a3-highgpu-8g", Cloud.GCP, "H100", 8, 208, 1872, 87.83),
    ],
)
def test_rows_are_as_published(
    name: str, cloud: Cloud, gpu: str, gpus_per_node: int, vcpus: int, memory_gib: float, price: float
) -> None:
    row = instance_types()[name]
    assert (row.cloud, row.gpu, row.gpus_per_node) == (cloud, gpu, gpus_per_node)
    assert (row.vcpus, row.memory_gib) == (vcpus, memory_gib)
    assert row.price_per_hour == pytest.approx(price, rel=1e-3)
    assert row.source
    assert row.region


def test_every_row_is_of_a_known_gpu_and_every_cloud_is_there() -> None:
    rows = instance_types().values()
    assert {row.gpu for row in rows} <= set(gpus())
    assert {row.cloud for row in rows} == set(Cloud)


def test_a_gpu_hour_costs_what_one_of_its_kind_may() -> None:
    # A count that is wrong by a factor would show here: no GPU is ten times as dear in one size as in another.
    cheapest: dict[str, float] = {}
    for row in instance_types().values():
        cheapest[row.gpu] = min(cheapest.get(row.gpu, 1e9), row.price_per_hour / row.gpus_per_node)
    for row in instance_types().values():
        assert row.price_per_hour / row.gpus_per_node < 10 * cheapest[row.gpu], row.name


def test_spot_is_stated_only_where_the_source_does() -> None:
    assert instance_types()["g6.xlarge"].spot_price_per_hour is None
    assert instance_types()["a3-highgpu-1g"].spot_price_per_hour == pytest.approx(2.51, rel=1e-2)


def test_a_good_row_is_read() -> None:
    row = read()["x1.large"]
    assert (row.price_per_hour, row.spot_price_per_hour, row.cloud) == (0.8, 0.3, Cloud.AWS)
    assert read({"spot_price_per_hour": "", "date": "2026"})["x1.large"].spot_price_per_hour is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spot_price_per_hour": "0.9"}, "spot_price_per_hour: 0.9 is above on-demand 0.8"),
        ({"spot_price_per_hour": "0"}, "spot_price_per_hour"),
        ({"price_per_hour": "0"}, "price_per_hour"),
        ({"price_per_hour": "-0.8"}, "price_per_hour"),
        ({"price_per_hour": "nan"}, "price_per_hour"),
        ({"price_per_hour": ""}, "price_per_hour: is empty"),
        ({"gpu": "L5"}, "gpu: 'L5' is not in gpus.csv"),
        ({"gpu": ""}, "gpu: is empty"),
        ({"gpus_per_node": "0"}, "gpus_per_node"),
        ({"gpus_per_node": "0.5"}, "gpus_per_node: '0.5' must be a whole number"),
        ({"vcpus": "-4"}, "vcpus"),
        ({"memory_gib": "0"}, "memory_gib"),
        ({"cloud": "Own"}, "cloud: 'Own' is not one of AWS, Azure, GCP"),
        ({"region": ""}, "region: is empty"),
        ({"source": ""}, "source: is empty"),
        ({"date": "soon"}, "date: 'soon' is not a date"),
    ],
)
def test_nonsense_is_refused_with_file_row_and_field(change: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=r"^mine.csv: line 2 \(x1.large\): ") as caught:
        read(change)
    assert says in str(caught.value)


def test_a_name_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"line 3 \(x1.large\): instance_type: is already on line 2"):
        read({}, {})
