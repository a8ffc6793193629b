"""The notebooks run top to bottom, in a small setting."""

from pathlib import Path

import matplotlib.pyplot as plt

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def test_double_well(capsys):
    code = (NOTEBOOKS / "double_well.py").read_text()
    for full, small in (("DURATION = 1000.0", "DURATION = 200.0"), ("STEPS = 1500", "STEPS = 200")):
        assert full in code
        code = code.replace(full, small)
    names = {}
    exec(compile(code, "double_well", "exec"), names)
    plt.close("all")
    relative = names["comparison"]["relative"]
    assert float(relative.sel(estimator="generative")) < 0.15
    assert float(relative.sel(estimator="gaussian")) > 0.3
    assert "score check: red" in capsys.readouterr().out
