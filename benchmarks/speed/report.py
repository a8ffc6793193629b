"""Tables, files and figures of a speed run. ``report.py speed.json --images DIR`` draws them again."""

import argparse
import csv
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import problem

PACKAGES = (
    "numpy", "scipy", "numba", "rocket-fft", "torch", "jax", "jaxlib", "exponax", "jax-cfd", "torch-cfd", "pyFFTW",
    "fluidsim", "fluidfft", "pyqg", "gfdt",
)  # fmt: skip


def machine():
    """Return what a reader needs to judge the figures, without any name of the machine."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": problem.CORES,
        "memory_gb": round(memory / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": versions,
        "load_before": os.getloadavg()[0],
    }


def summary(times, reference):
    """Return best, median and, if there is a reference of the same rounds, the median ratio to it."""
    ratio = None
    if reference and len(reference) == len(times):
        ratio = median(time / ours for time, ours in zip(times, reference, strict=True))
    return {"best": min(times), "median": median(times), "ratio": ratio}


def figure(value):
    """Return three significant digits without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def markdown(results):
    """Return all tables: for each system, dtype and number of members, contestants against grid size."""
    facts = results["machine"]
    installed = ", ".join(f"{name} {found}" for name, found in facts["versions"].items() if found != "not installed")
    lines = [
        "# Microseconds per field-step",
        "",
        f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gb']} GB, Python {facts['python']}, {installed}. "
        f"{results['rounds']} rounds; load average before the run {facts['load_before']:.2f}. "
        "Each cell: best / median over rounds (median ratio to ours in the same round; above 1 we are faster).",
    ]
    rows = results["rows"]
    for system, dtype, members in unique((row["system"], row["dtype"], row["members"]) for row in rows):
        part = [row for row in rows if (row["system"], row["dtype"], row["members"]) == (system, dtype, members)]
        sizes = unique(row["n"] for row in part)
        lines += ["", f"## {system}, {dtype}, {members} member{'s' if members > 1 else ''}", ""]
        lines.append(f"| contestant | scheme |{''.join(f' N = {n} |' for n in sizes)}")
        lines.append(f"|---|---|{'---:|' * len(sizes)}")
        for name in unique(row["contestant"] for row in part):
            cells = {row["n"]: row for row in part if row["contestant"] == name}
            scheme = results["schemes"].get(f"{system}, {name}", "-")
            lines.append(f"| {name} | {scheme} |{''.join(f' {cell(cells.get(n))} |' for n in sizes)}")
    lines += [
        "",
        "## Answers",
        "",
        "| system | dtype | contestant | found | expected | |",
        "|---|---|---|---:|---|---|",
    ]
    for check in results["checks"]:
        size = "not finite" if check["size"] is None else f"{check['size']:.3f}"
        verdict = "ok" if check["sane"] else "NOT SANE, left out"
        lines.append(
            f"| {check['system']} | {check['dtype']} | {check['contestant']} | {size} | "
            f"{check['low']:g} to {check['high']:g} | {verdict} |"
        )
    for title, key in (("Not installed", "missing"), ("Failed", "failed")):
        if results[key]:
            lines += ["", f"## {title}", "", *(f"- {name}: {reason}" for name, reason in results[key].items())]
    return "\n".join(lines)


def cell(row):
    if row is None:
        return "-"
    ratio = "" if row["ratio"] is None else f" ({figure(row['ratio'])}x)"
    broken = "" if row["finite"] else " NOT FINITE"
    return f"{figure(row['best'])} / {figure(row['median'])}{ratio}{broken}"


def unique(items):
    return list(dict.fromkeys(items))


def save(results, folder):
    """Write speed.json, speed.csv and speed.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "speed.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "speed.md").write_text(markdown(results) + "\n")
    columns = ("system", "dtype", "n", "members", "contestant", "variant", "steps", "best", "median", "ratio", "finite")
    with open(folder / "speed.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(results["rows"])


TITLES = {"allen-cahn": "Stochastic Allen-Cahn field", "navier-stokes": "2-D Navier-Stokes vorticity"}
# told apart without colour: grey level, dash and marker; ours black and thick, the floor a thin line without marker
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "sD^vPX<>d*"
GREYS = ("0.25", "0.5", "0.65")


def plot(results, folder):
    """Draw time per field-step against N, one figure per system: rows are dtypes, columns numbers of members."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for system in unique(row["system"] for row in results["rows"]):
        rows = [row for row in results["rows"] if row["system"] == system]
        dtypes, counts = unique(row["dtype"] for row in rows), unique(row["members"] for row in rows)
        sizes = sorted(unique(row["n"] for row in rows))
        fig, axes = plt.subplots(
            len(dtypes), len(counts), figsize=(3.2 * len(counts) + 2.6, 3.1 * len(dtypes) + 0.4), sharex=True,
            sharey=True, squeeze=False, layout="constrained",
        )  # fmt: skip
        names = unique(row["contestant"] for row in rows)
        styles = dict(zip(names, map(style, names, range(len(names))), strict=True))
        for line, dtype in zip(axes, dtypes, strict=True):
            for ax, members in zip(line, counts, strict=True):
                for name in names:
                    points = sorted(
                        (row["n"], row["median"])
                        for row in rows
                        if (row["dtype"], row["members"], row["contestant"]) == (dtype, members, name)
                    )
                    if points:
                        ax.plot(*zip(*points, strict=True), label=name, **styles[name])
                ax.set(xscale="log", yscale="log", title=f"{members} member{'s' if members > 1 else ''}, {dtype}")
                ax.set_xticks(sizes, [str(n) for n in sizes])
                ax.minorticks_off()
                ax.grid(which="major", color="0.9", linewidth=0.6)
                ax.set_axisbelow(True)
        fig.supxlabel("grid points per axis N")
        fig.supylabel("wall time per field-step (µs, median)")
        fig.suptitle(f"{TITLES[system]}, {results['machine']['cores']} cores of {results['machine']['cpu']}")
        handles = {}
        for ax in axes.flat:
            handles |= dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
        fig.legend(handles.values(), handles.keys(), loc="outside right center", fontsize="small", handlelength=3.5)
        fig.savefig(folder / f"speed_{system.replace('-', '_')}.png", dpi=150)
        plt.close(fig)


def style(name, index):
    if name.startswith("ours"):
        filled = "dealiased" not in name
        return {
            "color": "0", "linewidth": 2.2, "marker": "o", "markersize": 7, "linestyle": "-" if filled else "--",
            "markerfacecolor": "0" if filled else "1", "zorder": 5,
        }  # fmt: skip
    if "floor" in name:
        return {"color": "0", "linewidth": 0.9, "linestyle": ":", "zorder": 4}
    return {
        "color": GREYS[index % len(GREYS)], "linewidth": 1.3, "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)], "markersize": 5,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    options = parser.parse_args()
    found = json.loads(options.results.read_text())
    print(markdown(found))
    plot(found, options.images)
