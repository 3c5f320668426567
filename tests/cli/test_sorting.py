"""Which processors are kept from sorting by AVX-512."""

import os
import sys
from pathlib import Path

import pytest

from rmaplab.cli import sorting

SETTING = "NPY_DISABLE_CPU_FEATURES"


def info(vendor: str, family: int) -> str:
    return f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: 17\n\nprocessor\t: 1\n"


@pytest.mark.parametrize(
    ("text", "slow"),
    [
        (info("AuthenticAMD", 25), True),
        (info("AuthenticAMD", 26), False),
        (info("GenuineIntel", 25), False),
        ("CPU implementer\t: 0x41\n", False),
        ("", False),
    ],
)
def test_only_those_that_sort_slowly(text: str, slow: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Family 25 of AMD; what somebody has set stays, and who asked for warnings gets none of ours."""
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr(sys, "warnoptions", [])
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    sorting.sort_without_slow_instructions(file)
    assert (SETTING in os.environ) == slow
    monkeypatch.setenv(SETTING, "AVX2")
    sorting.sort_without_slow_instructions(file)
    assert os.environ[SETTING] == "AVX2"
    monkeypatch.delenv(SETTING)
    monkeypatch.setattr(sys, "warnoptions", ["error"])
    sorting.sort_without_slow_instructions(file)
    sorting.sort_without_slow_instructions(tmp_path / "none")
    assert SETTING not in os.environ
