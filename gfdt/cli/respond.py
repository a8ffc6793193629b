"""``gfdt respond``: from a trajectory and a score to the response function."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from gfdt.cli.inputs import beside, files_of, path_of, read_variable
from gfdt.cli.options import Config, Device, DryRun, Homogeneous, Out, Overwrite, Var, say, split_names, variable_names
from gfdt.errors import InputError

_EXCEEDANCE = "exceedance"


def respond(
    trajectory: Annotated[
        Path, typer.Argument(help='netCDF or zarr file with the unperturbed trajectory; parts of one: "run_*.nc".')
    ],
    score: Annotated[
        str, typer.Argument(help="Score file written by gfdt train, or the word gaussian; several: a.st,b.st.")
    ],
    max_lag: Annotated[float, typer.Option("--max-lag", help="Largest lag, in the trajectory's time unit.")],
    out: Out = None,
    lag_stride: Annotated[int, typer.Option("--lag-stride", help="Every how many samples a lag is computed.")] = 1,
    observable: Annotated[
        str | None,
        typer.Option(
            "--observable",
            help="What is observed: mean, second_moment, variance, moment3, moment4, covariance, pdf, spectrum or "
            "exceedance:1.5 (the probability to lie above); several: mean,variance.",
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", help="FILE[:VARIABLE] with a pattern over the state: push this, not each component."),
    ] = None,
    noise_amplitude: Annotated[
        float | None,
        typer.Option("--noise-amplitude", help="Amplitude s of additive noise s dW: respond to a change of it."),
    ] = None,
    homogeneous: Homogeneous = None,
    correction: Annotated[
        str, typer.Option("--correction", help="Use of R(0) = I: auto, stein (divide), none.")
    ] = "auto",
    confidence: Annotated[float, typer.Option("--confidence", help="Level of the band.")] = 0.95,
    var: Var = None,
    client: Annotated[
        str | None, typer.Option("--client", help="Address of a Dask scheduler, tcp://HOST:PORT, whose workers sum up.")
    ] = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
) -> None:
    """Estimate the response function R(t) = -<A(x(t)) s(x(0))>, with error bars, and write it to netCDF.

    By default the result goes beside the trajectory, e.g. run.nc -> run-response-gaussian.nc. The response with
    several scores is their average, and their spread goes into the error.
    """
    del config  # read by its callback
    from gfdt.cli.runs import announce
    from gfdt.output import check_output, write_dataset
    from gfdt.responses.estimate import check_request, response
    from gfdt.responses.in_blocks import open_in_blocks
    from gfdt.trajectory import load_trajectory

    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device} is not known: choose auto, cpu or cuda.")
    files = _score_files(score)
    perturbation, also = _perturbation(pattern, noise_amplitude)
    label = "-".join(["gaussian" if files == ["gaussian"] else _stem(files), *_short(observable), *also])
    target = check_output(
        out or beside(trajectory, f"response-{label}.nc"),
        overwrite=overwrite,
        inputs=[*files_of(trajectory), *files, *([path_of(pattern)] if pattern else [])],
    )
    announce(files_of(trajectory))
    observed = _observable(observable)
    names = variable_names(var)
    array = open_in_blocks(trajectory, observed, perturbation, client, var=names)
    if array is None:
        array = load_trajectory(trajectory, var=names, gaps=True)
    periodic = split_names(homogeneous)
    estimators = [_estimator(file, array, periodic, device) for file in files]
    options: dict[str, Any] = {
        "max_lag": max_lag,
        "lag_stride": lag_stride,
        "observable": observed,
        "perturbation": perturbation,
        "homogeneous": periodic,
        "correction": correction,
        "confidence": confidence,
        "client": client,
    }
    for estimator in estimators:
        check_request(array, estimator, **options)
    named = ", ".join(dict.fromkeys(estimator.label for estimator in estimators))
    if dry_run:
        say(f"would compute the {named} response up to lag {max_lag:g} and write {target}")
        return
    say(f"evaluating the score on {array.sizes['member'] * array.sizes['time']} states")
    result = response(array, estimators if len(estimators) > 1 else estimators[0], **options)
    result.attrs["history"] = f"gfdt respond {trajectory.name} {','.join(Path(file).name for file in files)}"
    write_dataset(result, target, overwrite=overwrite)
    spread = f"; spread of {len(files)} scores added" if len(files) > 1 else ""
    say(f"error bars from {result.attrs['resampling']}{spread}; {result.attrs['correction_summary']}")
    typer.echo(target)


def _score_files(text: str) -> list[str]:
    """The score files; a comma that belongs to the name of an existing file is left in it."""
    if Path(text).exists():
        return [text]
    names = [part.strip() for part in text.split(",")]
    if len(set(names)) < len(names) or not all(names):
        raise InputError(f"the scores {text} are not distinct files: name each once, separated by single commas.")
    return names


def _stem(files: list[str]) -> str:
    return Path(files[0]).stem if len(files) == 1 else f"{len(files)}-scores"


def _short(observable: str | None) -> list[str]:
    """What a default file name says of the observables: nothing of the state itself."""
    return [] if observable in (None, "mean") else [name.replace(":", "-") for name in split_names(observable) or ()]


def _estimator(file: str, array: Any, periodic: tuple[str, ...] | None, device: str) -> Any:
    from gfdt.scores.gaussian import GaussianScore
    from gfdt.scores.loading import load_score

    if file == "gaussian":
        return GaussianScore(periodic).fit(array)
    estimator: Any = load_score(file)
    if hasattr(estimator, "device"):
        estimator.device = device
        estimator.validate(estimator.state_dims_)
    return estimator


def _observable(text: str | None) -> Any:
    """Names, and ``exceedance:1.5``, as :func:`gfdt.response` takes them; several as a list."""
    from gfdt.responses.observables import OBSERVABLES, OTHER_NAMES, Exceedance

    if text is None:
        return None
    known = (*OBSERVABLES, *OTHER_NAMES)
    found: list[Any] = []
    for name in split_names(text) or ("",):
        kind, separator, threshold = name.partition(":")
        if kind == _EXCEEDANCE and separator:
            try:
                found.append(Exceedance(float(threshold)))
            except ValueError as error:
                raise InputError(f"--observable {name} has no threshold: write e.g. exceedance:1.5.") from error
        elif name in known:
            found.append(name)
        else:
            raise InputError(
                f"--observable {name} is not known: choose among {', '.join(known)} and exceedance:1.5, several "
                "separated by commas."
            )
    return found if len(found) > 1 else found[0]


def _perturbation(pattern: str | None, noise_amplitude: float | None) -> tuple[Any, list[str]]:
    """What is pushed, and what a default file name says of it."""
    from gfdt.responses.perturbations import NoiseAmplitude

    if pattern is not None and noise_amplitude is not None:
        raise InputError("--pattern and --noise-amplitude are two perturbations: ask for one at a time.")
    if pattern is not None:
        return read_variable(pattern), [path_of(pattern).stem]
    return (None, []) if noise_amplitude is None else (NoiseAmplitude(noise_amplitude), ["noise"])
