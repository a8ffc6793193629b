"""The command line, the registry and the config file."""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import pytest
import xarray as xr
from reference.simulators_toys import RandomWalk

import simulators
from simulators import SYSTEMS, OrnsteinUhlenbeck, ParameterError
from simulators import __main__ as cli
from simulators.__main__ import main
from simulators.checks import require_flag
from simulators.config import read_config


def test_end_to_end_in_a_process(tmp_path):
    out = tmp_path / "run.nc"
    options = {"--n": 4, "--lam": 0.3, "--members": 2, "--duration": 5, "--save-every": 0.5, "--seed": 3, "--out": out}
    command = ["ou", *(str(word) for pair in options.items() for word in pair)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "simulators", *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{out}\n", "")
    with xr.open_dataset(out) as dataset:
        expected = OrnsteinUhlenbeck(n=4, lam=0.3).simulate(2, 5.0, 0.5, seed=3)
        np.testing.assert_array_equal(dataset["u"], expected["u"])


def test_help_and_import_stay_cheap():
    code = (
        "import sys, simulators; simulators.SYSTEMS; simulators.OrnsteinUhlenbeck(); before = set(sys.modules)\n"
        "from simulators.__main__ import main\n"
        "try: main(['ou', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numba', 'scipy', 'xarray', 'netCDF4', 'gfdt', 'rocket_fft'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--kappa" in done.stdout
    assert "heavy: []" in done.stdout
    code = "import sys, simulators; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ou", "--kapa", "1"], "unrecognized arguments: --kapa"),
        (["ou", "--lam", "much"], "invalid float value"),
        (["kdv"], "invalid choice: 'kdv'"),
        (["linear", "--drift-matrix", "[[1"], "is not JSON"),
        (["linear", "--drift-matrix", "[" * 100_000], "is not JSON"),
        (["linear", "--drift-matrix", "[[" + "1" * 5000 + "]]"], "is not JSON"),
    ],
)
def test_bad_options_exit_with_2_and_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ou", "--lam", "-1", "--dry-run"], "lam = -1.0: expected"),
        (["ou"], "no output file"),
        (["ou", "--out", "missing/run.nc"], "missing is not a directory"),
        (["ou", "--members", "0", "--dry-run"], "n_members = 0"),
        (["linear", "--dry-run"], "linear has no default for drift_matrix, noise_covariance"),
        (["ou", "--config", "absent.toml"], "cannot read config absent.toml"),
        (["linear", "--drift-matrix", "[[-" + "1" * 400 + "]]", "--noise-covariance", "[[1]]"], "square matrix"),
        (["linear", "--drift-matrix", '[["-1"]]', "--noise-covariance", "[[1]]"], "square matrix of numbers"),
        (["ou", "--duration", "1e300", "--save-every", "1e-300", "--dry-run"], "save_every = 1e-300"),
        (["double-well", "--dt", "1e-300", "--dry-run"], "dt = 1e-300"),
        (["ou", "--members", "1" + "0" * 14, "--dry-run"], "members and 100 snapshots"),
    ],
)
def test_bad_values_return_2_and_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_unexpected_errors_are_one_line_and_a_traceback_on_request(monkeypatch, capsys):
    def fail(options):
        raise IndexError("two\nlines")

    monkeypatch.setattr(cli, "_run", fail)
    monkeypatch.delenv("SIMULATORS_DEBUG", raising=False)
    assert main(["ou"]) == 2
    expected = "unexpected error: IndexError: two lines; set SIMULATORS_DEBUG=1 for the traceback\n"
    assert capsys.readouterr().err == "simulators: " + expected
    assert main(["ou"], prog="gfdt simulate") == 2
    assert capsys.readouterr().err == "gfdt simulate: " + expected
    monkeypatch.setenv("SIMULATORS_DEBUG", "1")
    with pytest.raises(IndexError):
        main(["ou"])


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (OSError(27, "File too large"), "cannot read or write a file ([Errno 27] File too large): expected"),
        (MemoryError(), "out of memory (MemoryError): expected"),
    ],
)
def test_failures_of_the_machine_are_one_line(failure, message, monkeypatch, capsys):
    def fail(options):
        raise failure

    monkeypatch.setattr(cli, "_run", fail)
    assert main(["ou"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"simulators: error: {message}")
    assert captured.err.count("\n") == 1


def test_the_name_of_the_program_is_that_of_the_caller(capsys):
    assert main(["ou", "--lam", "-1", "--dry-run"], prog="gfdt simulate") == 2
    assert capsys.readouterr().err.startswith("gfdt simulate: error: lam = -1.0")
    with pytest.raises(SystemExit):
        main(["ou", "--help"], prog="gfdt simulate")
    assert capsys.readouterr().out.startswith("usage: gfdt simulate ou")
    with pytest.raises(SystemExit):
        main(["ou", "--lam", "x"], prog="gfdt simulate")
    assert capsys.readouterr().err.startswith("gfdt simulate ou: error:")


@pytest.mark.parametrize("name", SYSTEMS)
def test_help_says_what_every_parameter_means(name, capsys):
    meanings = cli._meanings(SYSTEMS[name])
    assert meanings.keys() == {field.name for field in fields(SYSTEMS[name])}
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = "".join(capsys.readouterr().out.split())  # argparse breaks lines at hyphens too
    for meaning in meanings.values():
        assert len(meaning) > 10
        assert "".join(meaning.split()) in shown


@dataclass(frozen=True)
class Switched(RandomWalk):
    """A random walk with parameters that are not numbers.

    Parameters
    ----------
    mirror : bool
        Walk the other way, with 50 % of nothing.
    label : str
        Word that is written nowhere.
    """

    mirror: bool = True
    label: str = "plain"
    name: ClassVar[str] = "switched"

    def __post_init__(self):
        require_flag("mirror", self.mirror)


@pytest.mark.parametrize(
    ("options", "config", "expected"),
    [
        ([], "", (True, "plain")),
        (["--no-mirror", "--label", "new"], "", (False, "new")),
        ([], 'mirror = false\nlabel = "new"\n', (False, "new")),
        (["--mirror"], "mirror = false\n", (True, "plain")),
    ],
)
def test_parameters_may_be_flags_and_words(options, config, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SYSTEMS, "switched", Switched)
    (tmp_path / "run.toml").write_text("[parameters]\n" + config)
    assert main(["switched", "--config", str(tmp_path / "run.toml"), "--dry-run", *options]) == 0
    parameters = json.loads(capsys.readouterr().err.partition("parameters: ")[2])
    assert (parameters["mirror"], parameters["label"]) == expected


def test_help_shows_flags_and_their_default(monkeypatch, capsys):
    monkeypatch.setitem(SYSTEMS, "switched", Switched)
    with pytest.raises(SystemExit):
        main(["switched", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--mirror, --no-mirror Walk the other way, with 50 % of nothing (default yes)" in shown
    assert "Word that is written nowhere (default plain)" in shown


def test_a_flag_is_not_a_word_in_a_config(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(SYSTEMS, "switched", Switched)
    (tmp_path / "run.toml").write_text("[parameters]\nmirror = 'no'\n")
    assert main(["switched", "--config", str(tmp_path / "run.toml"), "--dry-run"]) == 2
    assert "mirror = 'no': expected true or false without quotes" in capsys.readouterr().err


def test_dry_run_of_an_endless_run_ends(capsys):
    assert main(["double-well", "--dt", "1e-14", "--dry-run"]) == 0
    assert "99999999900000 steps per snapshot" in capsys.readouterr().err


def test_dry_run_says_what_would_be_written_and_writes_nothing(capsys, tmp_path):
    out = tmp_path / "run.nc"
    assert main(["double-well", "--members", "3", "--duration", "10", "--dry-run", "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "x(member=3, time=10, component=1), float64" in captured.err
    assert '"noise"' in captured.err
    assert list(tmp_path.iterdir()) == []


def test_dry_run_knows_the_size_of_the_file_and_about_the_time(tmp_path, capsys):
    main(["ou", "--duration", "1", "--out", str(tmp_path / "imports.nc")])  # takes its time, once
    arguments = ["ou", "--n", "8", "--members", "8", "--duration", "1000", "--dt", "0.01", "--workers", "2"]
    arguments += ["--out", str(tmp_path / "run.nc")]
    capsys.readouterr()
    assert main([*arguments, "--dry-run"]) == 0
    said = re.search(r"float64, ([\d.]+) MB; .* about ([\d.e-]+) s on 2 threads", capsys.readouterr().err)
    begin = time.perf_counter()
    assert main(arguments) == 0
    took = time.perf_counter() - begin
    assert (tmp_path / "run.nc").stat().st_size / 1e6 == pytest.approx(float(said[1]), rel=0.01)
    # benchmarks/streaming.py --estimate asks for a factor of 2; here the machine may be busy with other things
    assert 1 / 5 < took / float(said[2]) < 5


def test_config_file_and_options_override_it(tmp_path, capsys):
    config = tmp_path / "run.toml"
    config.write_text(
        'system = "linear"\n[parameters]\ndrift_matrix = [[-1.0, 2.0], [0.0, -1.0]]\n'
        "noise_covariance = [[1, 0], [0, 1]]\n[simulate]\nn_members = 2\nduration = 6.0\nsave_every = 2\nseed = 1\n"
    )
    out = tmp_path / "run.nc"
    assert main(["linear", "--config", str(config), "--members", "3", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    with xr.open_dataset(out) as dataset:
        assert dataset["x"].shape == (3, 3, 2)
        stored = json.loads(dataset.attrs["config_json"])
        assert stored["parameters"]["drift_matrix"] == [[-1.0, 2.0], [0.0, -1.0]]
    assert main(["linear", "--config", str(config), "--out", str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["linear", "--config", str(config), "--out", str(out), "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[simulat]\n", "unknown key in .* 'simulat': expected 'simulate'"),
        ("[simulate]\nn_member = 3\n", "unknown simulate argument 'n_member': expected 'n_members'"),
        ("[parameters]\nkapa = 3\n", "unknown parameter of ou 'kapa': expected 'kappa'"),
        ("[parameters]\nkappa = 'x'\n", "kappa = 'x': expected a finite number"),
        ("system = 'linear'\n", "for system 'linear': expected 'ou'"),
        ("parameters = 3\n", "expected a table"),
        ("= 3\n", "is not TOML"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "1" * 5000, "is not TOML"),
        ("[parameters]\nlam = 0x" + "f" * 5000, "lam = a int too large"),
        ("[parameters]\nlam = true\n", "lam = True: expected a finite number"),
        ("[simulate]\nout = 'run.nc'\noverwrite = 'no'\n", "overwrite = 'no': expected true or false"),
        ("[simulate]\nout = 'run.nc'\nresume = 'no'\n", "resume = 'no': expected true or false"),
    ],
)
def test_config_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ParameterError, match=message):
        simulators.run("ou", *read_config(path, "ou"))


def test_config_size_is_bounded(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ParameterError, match="larger than"):
        read_config(path, "ou")


def test_registry_names_are_the_classes_own_and_unknown_ones_are_refused():
    assert set(SYSTEMS) >= {"ou", "allen-cahn", "double-well", "scalar-climate", "linear"}
    assert all(system.name == name for name, system in SYSTEMS.items())
    with pytest.raises(ParameterError, match="unknown system 'doublewell': expected 'double-well'"):
        simulators.run("doublewell")


def test_every_public_name_resolves():
    for name in simulators.__all__:
        assert getattr(simulators, name) is not None
    assert set(simulators.__all__) <= set(dir(simulators))
    with pytest.raises(AttributeError, match="no attribute 'Lorenz'"):
        simulators.Lorenz  # noqa: B018
