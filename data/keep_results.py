"""Keep what ``gfdt reproduce`` found, small enough for a repository: ``python data/keep_results.py DIR``.

Of every system under DIR (``allen-cahn``, ...) the responses of all estimators, as float32, and their errors go into
one file ``data/results/<system>-<preset>-seed<seed>.nc``; the report goes beside it.
"""

import argparse
import json
from pathlib import Path

import xarray as xr

RESULTS = Path(__file__).parent / "results"
ESTIMATORS = ("exact", "dynamical", "analytical", "gaussian", "generative", "polished")


def keep(directory: Path, preset: str) -> Path:
    """Write one file for the system in ``directory``."""
    responses = {}
    for path in sorted(directory.glob("response-*.nc")):
        with xr.open_dataset(path) as data:
            responses[path.stem.removeprefix("response-")] = data["response"].load()
    names = [*[name for name in ESTIMATORS if name in responses], *sorted(set(responses) - set(ESTIMATORS))]
    lags = responses["dynamical"]["lag"]
    stacked = xr.concat(
        [
            responses[name].drop_vars(["variable", "variable_src"], errors="ignore").assign_coords(lag=lags)
            for name in names
        ],
        xr.Variable("estimator", names),
        join="exact",
    )
    with xr.open_dataset(directory / "errors.nc") as data:
        errors = data.load()
    ledger = json.loads((directory / "stages.json").read_text())["stages"]
    seed = ledger["training"]["settings"]["seed"]
    out = xr.Dataset({"response": stacked.astype("float32")}).merge(
        errors.rename({name: f"error_{name}" for name in errors.data_vars}), join="outer"
    )
    out.attrs = {
        "title": f"gfdt reproduce {directory.name} --preset {preset} --seed {seed}",
        "source": "gfdt",
        "references": "Giorgini et al., Phys. Rev. Lett. 133, 267302 (2024)",
        "stages_json": json.dumps(
            {name: {k: item[k] for k in ("settings", "seconds", "machine")} for name, item in ledger.items()}
        ),
    }
    path = RESULTS / f"{directory.name}-{preset}-seed{seed}.nc"
    out.to_netcdf(path, encoding={name: {"zlib": True, "complevel": 9} for name in out.data_vars})
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--preset", default="cpu")
    given = parser.parse_args()
    for item in sorted(path.parent for path in given.directory.glob("*/errors.nc")):
        print(keep(item, given.preset))
