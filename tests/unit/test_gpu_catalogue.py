from __future__ import annotations

import pytest

from medley.model.errors import UserError
from medley.profiles.gpu import GPU_COLUMNS, Dtype, Link, find_gpu, gpu_key, gpus, parse_gpus

HEADER = ",".join(GPU_COLUMNS)
GOOD = {
    "gpu": "X1",
    "aliases": "x1-sxm x1-80gb",
    "memory_gib": "80",
    "bandwidth_gb_per_s": "3000",
    "fp16_tflops": "900",
    "bf16_tflops": "900",
    "fp8_tflops": "1800",
    "int8_tops": "1800",
    "link": "NVLink",
    "link_gb_per_s": "450",
    "source": "data sheet",
    "date": "2026-08-21",
}


def table(*changes: dict[str, str]) -> str:
    rows = [",".join({**GOOD, **change}.values()) for change in changes or ({},)]
    return "\n".join([HEADER, *rows])


def test_packaged_gpus_are_those_of_the_issue() -> None:
    asked = [
        "T4",
        "L4",
        "A10G",
        "A30",
        "A40",
        "A6000",
        "L40S",
        "RTX-PRO-6000",
        "A100-40",
        "A100-80",
        "H100",
        "H100-PCIe",
        "GH200",
        "H200",
        "B200",
        "B300",
        "MI300X",
    ]
    assert set(asked) <= set(gpus())
    assert all(gpu.source and gpu.date for gpu in gpus().values())


@pytest.mark.parametrize(
    ("name", "memory_gib", "bandwidth_gb_per_s", "bf16"),
    [
        ("L4", 24, 300, 121),
        ("L40S", 45, 864, 362),
        ("A30", 24, 933, 165),
        ("A100-80", 80, 2039, 312),
        ("H100", 80, 3350, 989),
        ("H100-PCIe", 80, 2000, 756),
        ("H200", 141, 4800, 989),
        ("B200", 180, 7700, 2250),
        ("B300", 269, 7750, 2250),
        ("RTX-PRO-6000", 96, 1792, 468),
    ],
)
def test_figures_are_aiconfigurators(name: str, memory_gib: float, bandwidth_gb_per_s: float, bf16: float) -> None:
    gpu = gpus()[name]
    assert (gpu.memory_gib, gpu.bandwidth_gb_per_s) == (memory_gib, bandwidth_gb_per_s)
    assert gpu.dense_tflops(Dtype.BF16) == pytest.approx(bf16, rel=1e-3)


def test_a_type_that_the_gpu_lacks_is_none() -> None:
    t4 = gpus()["T4"]
    assert [t4.dense_tflops(dtype) for dtype in Dtype] == [65, None, None, 130]
    assert gpus()["A100-80"].dense_tflops(Dtype.FP8) is None


def test_fp8_is_twice_fp16_which_shows_that_neither_is_sparse() -> None:
    with_fp8 = [gpu for gpu in gpus().values() if gpu.fp8_tflops is not None]
    assert len(with_fp8) >= 9
    for gpu in with_fp8:
        assert gpu.fp8_tflops == pytest.approx(2 * gpu.fp16_tflops, rel=0.02), gpu.name


def test_a10g_is_not_the_a10() -> None:
    assert gpus()["A10G"].fp16_tflops == 70
    assert gpus()["A10"].fp16_tflops == 125


def test_links_are_in_one_direction() -> None:
    assert (gpus()["H100"].link, gpus()["H100"].link_gb_per_s) == (Link.NVLINK, 450)
    assert (gpus()["L4"].link, gpus()["L4"].link_gb_per_s) == (Link.PCIE, 32)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("h100", "H100"),
        ("H100-SXM", "H100"),
        ("NVIDIA-H100-80GB-HBM3", "H100"),
        ("NVIDIA-H100-PCIe", "H100-PCIe"),
        ("a100-80", "A100-80"),
        ("a100_80gb", "A100-80"),
        ("A100-80GB", "A100-80"),
        ("NVIDIA-A100-SXM4-40GB", "A100-40"),
        ("NVIDIA-A100-SXM4-80GB", "A100-80"),
        ("NVIDIA-A100-80GB-PCIe", "A100-80-PCIe"),
        ("NVIDIA-A10G", "A10G"),
        ("NVIDIA-A10", "A10"),
        ("NVIDIA-L4", "L4"),
        ("NVIDIA-L40S", "L40S"),
        ("Tesla-T4", "T4"),
        ("NVIDIA-RTX-A6000", "A6000"),
        ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition", "RTX-PRO-6000"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
    ],
)
def test_names_aliases_and_labels_are_found(name: str, found: str) -> None:
    assert find_gpu(name).name == found


# A100 alone may be either memory size, and a shared or partitioned GPU is not a whole one.
@pytest.mark.parametrize("name", ["", "V100", "A100", "NVIDIA-A10G-SHARED", "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"])
def test_an_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(UserError, match="Known GPUs: T4, A10"):
        find_gpu(name)


def test_no_name_or_alias_means_two_gpus() -> None:
    owners: dict[str, str] = {}
    for gpu in gpus().values():
        for name in (gpu.name, *gpu.aliases):
            assert owners.setdefault(gpu_key(name), gpu.name) == gpu.name


def test_a_good_row_is_read() -> None:
    gpu = parse_gpus(table())["X1"]
    assert (gpu.memory_gib, gpu.aliases, gpu.link) == (80, ("x1-sxm", "x1-80gb"), Link.NVLINK)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gpu": ""}, "gpu: is empty"),
        ({"memory_gib": "0"}, "memory_gib: 0 must be a finite number above 0"),
        ({"memory_gib": ""}, "memory_gib: is empty"),
        ({"bandwidth_gb_per_s": "-1"}, "bandwidth_gb_per_s"),
        ({"bandwidth_gb_per_s": "inf"}, "bandwidth_gb_per_s"),
        ({"fp16_tflops": "nan"}, "fp16_tflops"),
        ({"fp16_tflops": "fast"}, "fp16_tflops: 'fast' is not a number"),
        ({"fp8_tflops": "0"}, "fp8_tflops"),
        ({"fp8_tflops": "450"}, "fp8_tflops: 450 is below fp16_tflops 900"),
        ({"bf16_tflops": "1800"}, "bf16_tflops: 1800 is above fp16_tflops 900"),
        ({"int8_tops": "-2"}, "int8_tops"),
        ({"link": "string"}, "link: 'string' is not one of PCIe, NVLink, InfinityFabric"),
        ({"link_gb_per_s": "9000"}, "link_gb_per_s: 9000 is above the memory's 3000"),
        ({"source": ""}, "source: is empty"),
        ({"date": ""}, "date: is empty"),
        ({"date": "21.8.2026"}, "date: '21.8.2026' is not a date"),
        ({"date": "2026-13"}, "date"),
    ],
)
def test_nonsense_is_refused_with_file_row_and_field(change: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=r"^mine.csv: line 2 \(.*\): ") as caught:
        parse_gpus(table(change), file="mine.csv")
    assert says in str(caught.value)


def test_a_name_or_alias_used_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"line 3 \(X1\): gpu: is already on line 2"):
        parse_gpus(table({}, {}))
    with pytest.raises(ValueError, match=r"line 3 \(X2\): aliases: 'X1_SXM' already means X1"):
        parse_gpus(table({}, {"gpu": "X2", "aliases": "X1_SXM"}))
    with pytest.raises(ValueError, match=r"line 3 \(nvidia-x1\): gpu: 'nvidia-x1' already means X1"):
        parse_gpus(table({}, {"gpu": "nvidia-x1", "aliases": ""}))


def test_other_columns_or_a_short_row_are_refused() -> None:
    with pytest.raises(ValueError, match="line 1: the columns must be"):
        parse_gpus("gpu,memory\nX1,80")
    with pytest.raises(ValueError, match="line 1"):
        parse_gpus("")
    with pytest.raises(ValueError, match=r"line 2 \(X1\): 2 cells, 12 columns"):
        parse_gpus(f"{HEADER}\nX1,80")
