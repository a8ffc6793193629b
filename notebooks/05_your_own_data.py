# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # Your own data: from a file to a response
#
# Records come as they come: dims without names, times in hours since some date, missing samples, variables whose sizes
# are decades apart, a trend and a seasonal cycle, one file for each run. This page starts from such files and ends with
# a response that has bands and a certificate. On the way every refusal of `gfdt` is shown with its cure: what it cannot
# use it does not guess.
#
# The files are made here, with netCDF4 alone, from a system whose response is known, so that the end can be checked: a
# temperature and a pressure that live in a bent double well (two regimes). To use your own files skip the first
# section.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import netCDF4
import numpy as np
import xarray as xr

import gfdt
import simulators

QUICK = os.environ.get("GFDT_QUICK") == "1"
YEARS = 2 if QUICK else 8  # of each run; six-hourly
STEPS = 500 if QUICK else 2000  # of training
RUNS, HOURS, YEAR = 10, 6.0, 365.25 * 24
WARMING = 3.0 / YEARS  # K a year

# %% [markdown]
# ## The files
# Ten runs. Temperature in K and pressure in Pa fluctuate with scales of 3 K and 800 Pa, about means that warm by 3 K
# from the first year to the last and go through a seasonal cycle. Some rows were never written, and of some samples the
# pressure is missing.

# %%
system = simulators.Potential2D()  # one of its time units is taken for a day
SCALE = np.array([3.0, 800.0])  # K, Pa
fluctuations = system.simulate(n_members=RUNS, duration=365.25 * YEARS, save_every=HOURS / 24, seed=0)["x"].values
rng = np.random.default_rng(0)

for number, record in enumerate(fluctuations):
    hours = HOURS * np.arange(len(record))
    phase = 2 * np.pi * hours / YEAR
    temperature = 283.0 + WARMING * hours / YEAR - 9.0 * np.cos(phase) + SCALE[0] * record[:, 0]
    pressure = 101_300.0 + 250.0 * np.sin(phase) + SCALE[1] * record[:, 1]
    written = rng.random(len(hours)) > 0.005
    pressure[rng.random(len(hours)) < 0.003] = -9999.0
    with netCDF4.Dataset(f"run_{number}.nc", "w") as file:
        file.createDimension("dim_0", int(written.sum()))
        for name, values, units in (("time", hours, "hours since 1990-01-01"), ("T", temperature, "K")):
            file.createVariable(name, "f8", "dim_0")[:] = values[written]
            file[name].units = units
        file.createVariable("p", "f4", "dim_0", fill_value=-9999.0)[:] = pressure[written]
        file["p"].units = "Pa"

# %% [markdown]
# ## What the package says, and what to do
# A small function shows the message instead of stopping the notebook.

# %%
messages = []


def attempt(action):
    """Run an action, and show what it was refused for."""
    try:
        return action()
    except gfdt.InputError as error:
        messages.append(str(error))
        print("InputError:", error)


raw = xr.open_dataset("run_0.nc")
print(raw)

# %% [markdown]
# **The dims have no names.** The first refusal asks for `time`:

# %%
attempt(lambda: gfdt.load_trajectory(raw))
named = raw.swap_dims(dim_0="time")  # here the file has a variable called time; else raw.rename(dim_0="time") and dt=

# %% [markdown]
# **Two variables.** They may be two records or one state; only you know:

# %%
attempt(lambda: gfdt.load_trajectory(named))

# %% [markdown]
# **Missing samples.** Rows that were never written are no trouble: `fit` and `response` find them from the times and
# leave them out of every pair. A sample of which only a part is missing is:

# %%
STATE = ["T", "p"]
attempt(lambda: gfdt.GaussianScore().fit(named, var=STATE))


def complete(dataset):
    """Take a sample as missing if any of its variables is."""
    return dataset.where(dataset["T"].notnull() & dataset["p"].notnull())


# %% [markdown]
# **Members in separate files** go in as a list; they may have different lengths.

# %%
paths = sorted(Path().glob("run_*.nc"))
members = [complete(xr.open_dataset(path).swap_dims(dim_0="time")) for path in paths]
together = gfdt.load_trajectory(members, var=STATE)
missing = float(together.isnull().any("variable").mean())
print(together.sizes, f"time in {together['time'].attrs['units']}, {missing:.2%} missing")

# %% [markdown]
# ## Is it stationary?
# A response is one of fluctuations about a steady state. `check_score` looks for a drift of the mean:

# %%
too_early = gfdt.check_score(together, gfdt.GaussianScore().fit(together), progress=False)
(drift,) = (finding for finding in too_early.findings if finding.check == "stationarity")
print(f"{drift.verdict}: {drift.reason or drift.text}")

# %% [markdown]
# It finds the trend. A seasonal cycle it need not find: over whole years the mean does not drift. It has to come out
# first, or it is taken for a slow mode of the system. Here a straight line and the annual wave are fitted to the mean
# of all members and subtracted; for observations use more harmonics, or a climatology by day of the year.

# %%
hours = together["time"].values
columns = np.stack(
    [np.ones_like(hours), hours / YEAR, np.cos(2 * np.pi * hours / YEAR), np.sin(2 * np.pi * hours / YEAR)]
)
fits = []
for member in together.values:
    there = np.isfinite(member[:, 0])
    fits.append(np.linalg.lstsq(columns[:, there].T, member[there], rcond=None)[0])
fits = np.array(fits)  # (member, coefficient, variable)
trend, trend_error = fits[:, 1, 0].mean(), fits[:, 1, 0].std(ddof=1) / np.sqrt(RUNS)
cycle, cycle_error = fits[:, 2, 0].mean(), fits[:, 2, 0].std(ddof=1) / np.sqrt(RUNS)
print(f"trend of T {trend:.2f} +- {trend_error:.2f} K a year (true: {WARMING:.2f})")
print(f"annual cosine {cycle:.2f} +- {cycle_error:.2f} K (true: -9)")
anomalies = together - (columns.T @ fits.mean(axis=0))
anomalies["time"].attrs = together["time"].attrs

fig, axes = plt.subplots(2, 1, figsize=(9, 4), layout="constrained", sharex=True)
for ax, record in zip(axes, (together, anomalies), strict=True):
    ax.plot(hours / YEAR, record.isel(member=0).sel(variable="T"), color="0.3", linewidth=0.4)
axes[0].set(ylabel="T (K)", title="as it came")
axes[1].set(ylabel="T anomaly (K)", xlabel="time (years)", title="trend and annual cycle removed")

# %% [markdown]
# ## Scores
# K and Pa in one state are no difficulty for the scores: every component is measured by its own standard deviation.
# Where one number has to serve for both, the package asks:

# %%
attempt(lambda: gfdt.response(anomalies, gfdt.GaussianScore().fit(anomalies), max_lag=24.0, observable="pdf"))

training, judging = anomalies.isel(member=slice(0, 7)), anomalies.isel(member=slice(7, None))
gaussian = gfdt.GaussianScore().fit(training)
learned = gfdt.DSMScore(max_steps=STEPS, progress=False).fit(training)

# %% [markdown]
# ## Check
# On runs the scores have not seen. The Gaussian misses the third-order identity: the data have two regimes.

# %%
checks = {"gaussian": gfdt.check_score(judging, gaussian), "generative": gfdt.check_score(judging, learned)}
print("Gaussian:", checks["gaussian"].verdict)
print(checks["generative"])
figure = gfdt.plot_check(checks["generative"])

# %% [markdown]
# ## Certify
# The same, and more: samples of the score are compared with the runs kept back. The report can be written as one HTML
# file; its verdict goes into the file of the score and into every response.

# %%
certificate = gfdt.certify(learned, judging, out="certificate.html", progress=False)
print(certificate)
figure = certificate.plot()

# %% [markdown]
# ## Respond
# All four pairs of cause and effect, with lags in hours. The unit of a response is that of the effect over that of the
# cause, so what a push of $p$ does to $T$ is in K per Pa.

# %%
MAX_LAG = 240.0
responses = {
    name: gfdt.response(anomalies, score, max_lag=MAX_LAG)
    for name, score in (("gaussian", gaussian), ("generative", learned))
}
exact = system.exact_response(responses["gaussian"]["lag"].values / 24)
exact = exact * xr.DataArray(SCALE, dims="component") / xr.DataArray(SCALE, dims="component_src")
exact = exact.transpose("lag", ...).rename(component="variable", component_src="variable_src")
exact = exact.assign_coords(lag=responses["gaussian"]["lag"], variable=STATE, variable_src=STATE)

fig, axes = plt.subplots(2, 2, figsize=(9, 5.6), layout="constrained", sharex=True)
UNITS = {"T": "K", "p": "Pa"}
for ax, (effect, cause) in zip(axes.flat, [(i, j) for i in STATE for j in STATE], strict=True):
    gfdt.plot_responses({"exact": exact, **responses}, at={"variable": effect, "variable_src": cause}, ax=ax)
    ax.set_title(f"{effect} after a push of {cause}", fontsize="medium")
    ax.set_ylabel(f"response ({UNITS[effect]}/{UNITS[cause]})" if effect != cause else "response")

# %% [markdown]
# Different units make an error over all entries meaningless; per entry, or in natural standard deviations, it is not.

# %%
errors = {}
for effect, cause in [(i, j) for i in STATE for j in STATE]:
    entry = {"variable": effect, "variable_src": cause}
    of_entry = {name: R.sel(entry)[["response", "lower", "upper"]] for name, R in responses.items()}
    errors[effect, cause] = gfdt.compare(exact.sel(entry), of_entry)
    table = errors[effect, cause]
    print(
        f"{effect} after a push of {cause}: relative error Gaussian {float(table['relative'][0]):.2f}, learned "
        f"{float(table['relative'][1]):.2f} ({float(table['coverage'][1]):.0%} of lags in the band)"
    )

# %% [markdown]
# The learned score has all four within its bands. The Gaussian has one of them right, what $p$ does to $T$; nothing in
# its own bands says which.
#
# ## Save and reload
# The score as safetensors (no pickle), with its certificate; the response as netCDF. A response from a file is as good
# as the one in memory: here it forecasts what a pressure push of 2 Pa an hour, kept for ten days, does.

# %%
learned.save("score.safetensors", overwrite=True)
responses["generative"].to_netcdf("response.nc")
again = gfdt.load_score("score.safetensors")
R = xr.load_dataset("response.nc")
print("verdict in the files:", again.certificate_.verdict, R.attrs["certificate_verdict"])

push = xr.DataArray(2.0 * np.ones(41), dims="time", coords={"time": HOURS * np.arange(41)})
forecast = gfdt.predict(R, push * xr.DataArray([0.0, 1.0], dims="variable_src", coords={"variable_src": STATE}))
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for ax, name in zip(axes, STATE, strict=True):
    gfdt.plot_prediction(forecast, at={"variable": name}, ax=ax)
    ax.set(title=name, ylabel=f"change of the mean ({UNITS[name]})")

# %% [markdown]
# ## To take away
# - Name the dims, say which variables are one state, take incomplete samples out whole, and pass members as a list.
# - Remove trend and seasonal cycle before anything else; no method can tell them from the system's own slow modes.
# - Fit on some members, check and certify on others, and only then look at the response.
#
# Limits: what is removed as a cycle may still modulate the fluctuations (a variance that changes with the season); then
# take one season at a time, each year a member. A missing sample must be missing by accident, not because of its value.
# Variables that drive the system but are not in the state make the response that of the state alone.
