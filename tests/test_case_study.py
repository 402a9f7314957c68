"""The case study runs on the shared measurements, and finds what its page says."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "case_study_mmlu.py"


@pytest.mark.slow
def test_case_study(tmp_path, capsys, monkeypatch):
    example = runpy.run_path(str(EXAMPLE))
    if not example["data_path"]().exists():
        pytest.skip(f"{example['data_path']()} is not there; set TBTJAX_DATA")
    figure = tmp_path / "figure.png"
    monkeypatch.setattr(sys, "argv", ["case_study_mmlu.py", str(figure)])
    assert example["main"]() == 0
    lines = capsys.readouterr().out.splitlines()
    llama = next(line for line in lines if line.startswith("llama "))
    assert llama.split() == ["llama", "4", "7", "up", "to", "9,570", "208", "4,", "1", "0", "0"]
    assert len(lines) == 20
    assert figure.read_bytes().startswith(b"\x89PNG")
