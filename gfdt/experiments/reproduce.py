"""``gfdt reproduce``: simulate, learn, certify, respond by four estimators, and compare; each as a stage of its own.

Estimators, as in the PRL: "gaussian" (R = C(t) C(0)^-1), "analytical" (the exact score, where there is one) and
"generative" (the score learned by denoising score matching), against "dynamical" (twin experiments). For a linear
system there is "exact" too, in closed form. Beyond the PRL: "polished" is the learned score after
:class:`gfdt.PolishedScore`; with a hidden variable, "gaussian+forcing" and so on take the state together with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from gfdt._version import __version__
from gfdt.errors import InputError, OutputError
from gfdt.experiments.errors import Judged, conclude, errors_csv, tabulate
from gfdt.experiments.figure import draw
from gfdt.experiments.recipes import PRESETS, SYSTEMS, Recipe, find_recipe
from gfdt.experiments.report import report
from gfdt.experiments.stages import Stage, run_stages
from gfdt.output import atomic_path, check_output, write_dataset
from gfdt.validation import integer, one_of

if TYPE_CHECKING:
    from gfdt.scores.base import Score

__all__ = ["Reproduction", "reproduce", "stages_of"]

Log = Callable[[str], None]

PRL = "Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024)"
_SPACE = ("y", "x")
_WITH = "+"  # "gaussian+forcing": the state is that variable and the hidden one


@dataclass(frozen=True)
class Reproduction:
    """What came out.

    Attributes
    ----------
    table : str
        One line for each system and estimator.
    figures : mapping of str to Path
        Of every system, and of "all" if there are several.
    judged : mapping of str to Judged
        Errors of the estimators of each system over the lags that are judged, and the ratios between them.
    seconds : mapping of str to mapping
        What every stage took, when it was done.
    """

    table: str
    figures: dict[str, Path]
    judged: dict[str, Judged]
    seconds: dict[str, dict[str, float]]


def reproduce(
    systems: str | Sequence[str] = "all",
    preset: str = "cpu",
    *,
    out: str | Path = "reproduce-output",
    seed: int = 0,
    device: str = "auto",
    hidden: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    log: Log = print,
    recipes: Sequence[Recipe] | None = None,
) -> Reproduction | None:
    """Run the comparison of the PRL's Fig. 1 for one system or several, and write everything to ``out``.

    Parameters
    ----------
    systems : str or sequence of str
        Of "ou", "allen-cahn", "navier-stokes"; "all": one after the other.
    preset : str
        "quick", "cpu" or "paper", see :mod:`gfdt.experiments.recipes`. Default cpu: half an hour on two cores for each.
    out : path
        Directory; each system gets one of its own in it. What is there already, made with the same settings, is not
        made again; an interrupted stage goes on where it can.
    seed : int
        Root of all random numbers: records, twins, training.
    device : "auto", "cpu" or "cuda"
        Where scores are trained and evaluated.
    hidden : bool
        Where a system has a hidden variable (the forcing of Navier-Stokes), learn a second score of both variables
        together. Default False: only the Gaussian estimate is made with both.
    overwrite : bool
        Replace what was made with other settings. Default False.
    dry_run : bool
        Only say what would be done.
    log : callable
        Takes each line of progress.
    recipes : sequence of Recipe, optional
        Instead of those that ``systems`` and ``preset`` name.

    Returns
    -------
    Reproduction, or None for a dry run

    Raises
    ------
    InputError
        If a name is unknown.
    OutputError
        If ``out`` cannot be written, is in use, or holds what was made with other settings.
    """
    one_of("device", device, ("auto", "cpu", "cuda"))
    one_of("preset", preset, PRESETS)
    if device == "cuda":
        from gfdt.diffusion.settings import find_device

        find_device(device)  # before hours of simulation
    integer("seed", seed, 0, 10**8)
    chosen = list(recipes) if recipes is not None else [find_recipe(name, preset) for name in _names(systems)]
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"the directory {out} cannot be made (it is a file): choose another --out.")
    if not dry_run:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            text = f"the directory {out} cannot be made ({error.strerror}): choose another --out."
            raise OutputError(text) from error
    seconds: dict[str, dict[str, float]] = {}
    for recipe in chosen:
        log(f"{recipe.name}:")
        stages = stages_of(recipe, seed=seed, device=device, hidden=hidden)
        seconds[recipe.name] = run_stages(
            stages, out / recipe.name, overwrite=overwrite, dry_run=dry_run, log=lambda line: log(f"  {line}")
        )
    if dry_run:
        return None
    judged = {recipe.name: conclude(_errors_of(out / recipe.name), recipe) for recipe in chosen}
    figures = {recipe.name: out / recipe.name / f"{recipe.name}.png" for recipe in chosen}
    known = {r.name: (r, judged[r.name], out / r.name, list(seconds[r.name])) for r in chosen}
    text = report(known)
    for name, item in known.items():
        _write_text(out / name / "report.md", report({name: item}))
    if len(chosen) > 1:
        _write_text(out / "report.md", text)
        figures["all"] = out / "figure.png"
        _write_text(out / "errors.csv", errors_csv({r.name: _errors_of(out / r.name) for r in chosen}))
        with atomic_path(figures["all"], overwrite=True) as temporary:
            draw([(recipe, out / recipe.name) for recipe in chosen]).savefig(temporary, dpi=150, format="png")
    return Reproduction(text, figures, judged, seconds)


def _names(systems: str | Sequence[str]) -> list[str]:
    names = list(SYSTEMS) if systems == "all" else [systems] if isinstance(systems, str) else list(systems)
    for name in names:
        if name not in SYSTEMS:
            raise InputError(f"there is no system {name!r} to reproduce: choose among {', '.join(SYSTEMS)}, all.")
    return list(dict.fromkeys(names))


def stages_of(recipe: Recipe, *, seed: int, device: str, hidden: bool) -> list[Stage]:
    """Return the stages of one system, each after those it needs."""
    parameters = {"system": recipe.system.name, "parameters": recipe.system.parameters()}
    said = _provenance(recipe, seed)

    # The seeds of the parts: no two users' seeds share a stream.
    def root(part: int) -> int:
        return 100 * seed + part

    def simulated(name: str, arguments: Mapping[str, Any], part: int) -> Stage:
        def run(directory: Path) -> None:
            recipe.system.simulate(
                **arguments, seed=root(part), out=directory / f"{name}.nc", overwrite=True, resume=True
            ).close()

        settings = {**parameters, **arguments, "seed": seed}
        return Stage(name, (f"{name}.nc",), run, partial=(f"{name}.nc.part*", f".{name}.nc.*"), settings=settings)

    training, record = simulated("training", recipe.training, 1), simulated("record", recipe.record, 2)
    twins = [_twins(recipe, parameters, index, seed, root(10 + index)) for index in range(recipe.n_batches)]
    out = [training, record, *twins]
    first: str | list[str] = _first_variable(recipe)
    both: str | list[str] = [_first_variable(recipe), recipe.hidden]
    responses = []
    if recipe.name == "ou":
        responses.append(_exact(recipe, parameters, said, record))
    for name, score in _formulas(recipe).items():
        responses.append(_respond(recipe, name, both if _WITH in name else first, _given(score), said, (record,)))
    learn = {"generative": first}
    if hidden and recipe.hidden:
        learn["generative" + _WITH + recipe.hidden] = both
    for name, var in learn.items():
        learned = _learn(recipe, name, var, training, seed, root(3), device)
        polished = _polish(name, var, training, learned, root(5), device)
        certified = _certify(recipe, polished.makes[0], var, polished, record, root(4), device)
        out += [learned, polished, certified]
        for label, made in ((name, learned), (name.replace("generative", "polished"), certified)):
            responses.append(_respond(recipe, label, var, _loader(made.makes[0], device), said, (record, made)))
    compared = _compare(recipe, said, twins, responses)
    picture = Stage(
        "figure",
        (f"{recipe.name}.png",),
        lambda directory: _draw(recipe, directory),
        (record, compared),
        settings={"pictured": list(recipe.pictured)},
    )
    return [*out, *responses, compared, picture]


def _provenance(recipe: Recipe, seed: int) -> dict[str, str]:
    """Attributes that say what a result was made from."""
    config = {
        "system": recipe.system.name,
        "parameters": recipe.system.parameters(),
        "training": dict(recipe.training),
        "record": dict(recipe.record),
        "twins": {**recipe.twins, "n_batches": recipe.n_batches},
        "score": dict(recipe.score),
        "seed": seed,
    }
    return {
        "title": f"gfdt reproduce: {recipe.title}",
        "source": f"gfdt {__version__}",
        "references": PRL,
        "config_json": json.dumps(config),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _first_variable(recipe: Recipe) -> str:
    return str(recipe.system.layout().variable)


def _twins(recipe: Recipe, parameters: Mapping[str, Any], index: int, seed: int, root: int) -> Stage:
    name = f"twins-{index + 1}"

    def run(directory: Path) -> None:
        found = recipe.system.direct_response(
            max_lag=recipe.max_lag, save_every=recipe.record["save_every"], **recipe.twins, seed=root
        )
        write_dataset(found, directory / f"{name}.nc", overwrite=True)

    settings = {**parameters, **recipe.twins, "max_lag": recipe.max_lag, "batch": index, "seed": seed}
    return Stage(name, (f"{name}.nc",), run, settings=settings)


def _exact(recipe: Recipe, parameters: Mapping[str, Any], said: Mapping[str, str], record: Stage) -> Stage:
    def run(directory: Path) -> None:
        system: Any = recipe.system
        with xr.open_dataset(directory / "record.nc") as data:
            time, n_lags = data["time"], round(recipe.max_lag / recipe.record["save_every"]) + 1
            exact = system.exact_response(time.values[:n_lags] - time.values[0])
            exact["lag"].attrs.update(time.attrs)
        kept = exact.to_dataset(name="response").assign_attrs(estimator="exact", **said)
        write_dataset(kept, directory / "response-exact.nc", overwrite=True)

    return Stage(
        "respond-exact", ("response-exact.nc",), run, (record,), settings={**parameters, "max_lag": recipe.max_lag}
    )


def _formulas(recipe: Recipe) -> dict[str, Score]:
    """The estimators that need no training."""
    from gfdt.scores.analytic import AnalyticScore
    from gfdt.scores.gaussian import GaussianScore

    out: dict[str, Score] = {"gaussian": GaussianScore(_SPACE)}
    if recipe.analytical:
        out["analytical"] = AnalyticScore(recipe.system.score)
    if recipe.hidden:
        out["gaussian" + _WITH + recipe.hidden] = GaussianScore(_SPACE)
    return out


def _learn(
    recipe: Recipe, name: str, var: str | list[str], training: Stage, seed: int, root: int, device: str
) -> Stage:
    file = f"{name}.safetensors"

    def run(directory: Path) -> None:
        from gfdt.scores.dsm import DSMScore

        checkpoint = directory / f".{name}.checkpoint"
        score = DSMScore(
            homogeneous=_SPACE,
            seed=root,
            device=device,
            checkpoint=checkpoint,
            log=directory / f"{name}-training.csv",
            **recipe.score,
        ).fit(directory / "training.nc", var=var)
        if score.interrupted_:
            raise KeyboardInterrupt
        score.save(directory / file, overwrite=True)
        checkpoint.unlink(missing_ok=True)

    settings = {**recipe.score, "seed": seed}
    return Stage(f"train-{name}", (file,), run, (training,), (f".{name}.checkpoint*",), settings)


def _polish(name: str, var: str | list[str], training: Stage, learned: Stage, root: int, device: str) -> Stage:
    label = name.replace("generative", "polished")

    def run(directory: Path) -> None:
        from gfdt.scores.polished import PolishedScore

        score = PolishedScore(_loader(learned.makes[0], device)(directory), seed=root)
        score.fit(directory / "training.nc", var=var).save(directory / f"{label}.safetensors", overwrite=True)

    return Stage(f"polish-{name}", (f"{label}.safetensors",), run, (learned, training), settings={"seed": root})


def _certify(
    recipe: Recipe, file: str, var: str | list[str], learned: Stage, record: Stage, root: int, device: str
) -> Stage:
    name = file.removesuffix(".safetensors")
    files = (f"{name}-certified.safetensors", f"{name}-certificate.html")

    def run(directory: Path) -> None:
        from gfdt.certificate.certify import certify

        score = _loader(file, device)(directory)
        data = _thinned(directory / "record.nc", var, recipe.certified)
        certify(score, data, n_samples=recipe.n_samples, seed=root, out=directory / files[1], overwrite=True)
        score.save(directory / files[0], overwrite=True)

    settings = {"certified": list(recipe.certified), "n_samples": recipe.n_samples, "seed": root}
    return Stage(f"certify-{name}", files, run, (learned, record), settings=settings)


def _thinned(path: Path, var: str | list[str], certified: tuple[int, int]) -> Any:
    """Members and times of a record that lie far apart, as one state."""
    from gfdt.trajectory import load_trajectory

    data = load_trajectory(path, var=var)
    step = max(data.sizes["time"] // certified[1], 1)
    return data.isel(member=slice(0, certified[0]), time=slice(None, None, step))


def _given(score: Score) -> Callable[[Path], Score]:
    return lambda _directory: score


def _loader(file: str, device: str) -> Callable[[Path], Score]:
    def load(directory: Path) -> Any:
        from gfdt.scores.loading import load_score

        score: Any = load_score(directory / file)
        getattr(score, "score", score).device = device
        return score

    return load


def _respond(
    recipe: Recipe,
    name: str,
    var: str | list[str],
    score_of: Callable[[Path], Score],
    said: Mapping[str, str],
    needs: tuple[Stage, ...],
) -> Stage:
    file = f"response-{name}.nc"

    def run(directory: Path) -> None:
        from gfdt.responses.estimate import response
        from gfdt.trajectory import load_trajectory

        data, score = load_trajectory(directory / "record.nc", var=var), score_of(directory)
        if name.startswith("gaussian"):
            score.fit(data)
        found = response(data, score, max_lag=recipe.max_lag, homogeneous=_SPACE)
        if "variable_src" in found.dims:
            first = _first_variable(recipe)
            found = found.sel(variable=first, variable_src=first)
        write_dataset(found.assign_attrs(estimator=name, **said), directory / file, overwrite=True)

    return Stage(f"respond-{name}", (file,), run, needs, settings={"max_lag": recipe.max_lag})


def _compare(recipe: Recipe, said: Mapping[str, str], twins: Sequence[Stage], responses: Sequence[Stage]) -> Stage:
    def run(directory: Path) -> None:
        batches = [_load(directory / item.makes[0]) for item in twins]
        estimates = {item.name.removeprefix("respond-"): _load(directory / item.makes[0]) for item in responses}
        dynamical, errors = tabulate(batches, estimates)
        write_dataset(dynamical.assign_attrs(said), directory / "response-dynamical.nc", overwrite=True)
        write_dataset(errors.assign_attrs(said), directory / "errors.nc", overwrite=True)
        _write_text(directory / "errors.csv", errors_csv({recipe.name: errors}))

    files = ("response-dynamical.nc", "errors.nc", "errors.csv")
    return Stage("compare", files, run, (*twins, *responses))


def _errors_of(directory: Path) -> xr.Dataset:
    return _load(directory / "errors.nc")


def _load(path: Path) -> xr.Dataset:
    with xr.open_dataset(path) as data:
        return data.load()


def _draw(recipe: Recipe, directory: Path) -> None:
    with atomic_path(directory / f"{recipe.name}.png", overwrite=True) as temporary:
        draw([(recipe, directory)]).savefig(temporary, dpi=150, format="png")


def _write_text(path: Path, text: str) -> None:
    check_output(path, overwrite=True)
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text)
