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
# # Turbulence, and a forcing nobody recorded: Navier-Stokes
#
# The third system of the PRL (eq. 11-13; Giorgini, Deck, Bischoff and Souza, Phys. Rev. Lett. 133, 267302 (2024)): the
# vorticity $z$ of a two-dimensional flow on a periodic box, carried by a mean wind and driven by waves whose phases
# wander at random,
#
# $$\partial_t z = -v\cdot\nabla z - c\,\partial_x z - \nu\nabla^4 z - \nu_h\nabla^{-4} z
#   + F\sum_k \cos(k\cdot x+\phi_k(t)),\qquad \langle d\phi_k^2\rangle = 2\,dt .$$
#
# There is no formula for the density. And $z$ alone is not the whole state: the phases $\phi_k$ are, too, but nobody
# records them. Does that matter for the response? `gfdt reproduce navier-stokes --hidden` does what follows with more
# data.

# %%
import os
import warnings

import matplotlib.pyplot as plt
import numpy as np

import gfdt
import simulators

QUICK = os.environ.get("GFDT_QUICK") == "1"
MEMBERS = 20 if QUICK else 64
DURATION = 15.0 if QUICK else 100.0  # of the records
SPINUP = 50.0 if QUICK else 300.0
STEPS = 40 if QUICK else 2500  # of training
PAIRS = 40 if QUICK else 512  # of twins
MAX_LAG = 2.0
SPACE = ("y", "x")

# %% [markdown]
# ## The record
# With `save_forcing=True` the simulator writes the forcing field beside the vorticity, as a second variable. What an
# observer would have is the vorticity alone.

# %%
system = simulators.NavierStokes(n=32, save_forcing=True)
options = {"spinup": SPINUP, "dt": 1 / 32, "dtype": "float32"}
learn = system.simulate(MEMBERS, DURATION, 0.5, seed=1, **options)
run = system.simulate(MEMBERS, DURATION, 0.25, seed=2, **options)
fig, axes = plt.subplots(2, 3, figsize=(9.5, 5.4), layout="constrained")
gfdt.plot_snapshots(run, var=["vorticity", "forcing"], times=(0, 2, 4), ax=axes.ravel())
z = run["vorticity"].values.astype(float)
kurtosis = (z**4).mean() / (z**2).mean() ** 2
print(f"standard deviation {z.std():.3f}, kurtosis {kurtosis:.2f} (Gaussian: 3)")

# %% [markdown]
# ## Responses of the vorticity
# Twins with the same phases, one of them kicked, against the Gaussian and the learned score of the vorticity. The noise
# level of the score is 5 % of the standard deviation, which is more than the smallest scales have: they are given up
# for less noise in all others.

# %%
z_learn, z_run = learn["vorticity"], run["vorticity"]
twins = system.direct_response(
    MAX_LAG,
    0.25,
    PAIRS // 4,
    amplitude=0.05,
    perturbation="pattern",
    n_restarts=4,
    decorrelate=1.0,
    spinup=SPINUP,
    dt=1 / 32,
    seed=3,
)
gaussian = gfdt.GaussianScore(SPACE).fit(z_run)
learned = gfdt.PolishedScore(gfdt.DSMScore(sigma=0.02, max_steps=STEPS, progress=False)).fit(z_learn)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", gfdt.UnreliableScoreWarning)
    R = {
        name: gfdt.response(z_run, score, max_lag=MAX_LAG, homogeneous=SPACE)
        for name, score in (("gaussian", gaussian), ("polished", learned))
    }

# %% [markdown]
# ## With the forcing as a second variable
# A state of two variables at every site; the response of the vorticity to a kick of the vorticity is one of four. A
# Gaussian estimate that knows the forcing keeps the phases of the kicked twin as they are; one that does not lets them
# follow the kick, as they do in the record.

# %%
both = ["vorticity", "forcing"]
pair = gfdt.GaussianScore(SPACE).fit(run, var=both)
full = gfdt.response(run, pair, var=both, max_lag=MAX_LAG, homogeneous=SPACE)
R["gaussian + forcing"] = full.sel(variable="vorticity", variable_src="vorticity")
comparison = gfdt.compare(twins, R)

fig, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
for ax, lag in zip(axes, (0.25, 0.75), strict=False):
    gfdt.plot_responses({"dynamical": twins, **R}, against="dx", at={"lag": lag, "dy": 0}, ax=ax)
    ax.set(title=f"response at lag {lag:g}", xlabel="dx (cells from the kick)")
gfdt.plot_errors(comparison.isel(lag=slice(1, None)), ax=axes[2])
axes[2].set(xlabel="lag", title="rms error against the twins")
rms = comparison["rms"]
print(rms.sel(lag=[0.5, 1.0, 2.0], method="nearest").to_pandas().round(5).to_string())

# %% [markdown]
# The kick travels with the wind, half the box in one time unit. The Gaussian response decays too slowly. Giving it the
# forcing changes little, so that the gap is not the hidden phases but what is not Gaussian in the flow, and that is for
# a learned score to find.

# %% [markdown]
# ## How much is noise?
# The bands say how much of the error more data would remove. $B = -s$ is large, because the small scales have little
# variance, and its product with $z(t)$ scatters: at long lags, where little response is left, noise is what one sees.

# %%
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name in ("gaussian", "polished"):
    noise = np.sqrt((R[name]["stderr"] ** 2 + twins["stderr"].values ** 2).mean(("dy", "dx")))
    (line,) = ax.plot(rms["lag"], rms.sel(estimator=name), label=name)
    ax.plot(noise["lag"], noise, color=line.get_color(), linestyle=":", label=f"{name}: noise alone")
ax.set(xlabel="lag", ylabel="rms error", ylim=(0, None))
ax.legend(frameon=False)

# %% [markdown]
# ## To take away
# - A flow that looks like noise need not be Gaussian: its kurtosis says so, and so does `gfdt.check_score`.
# - What is hidden can be tested where a simulator can write it: put it in as a second variable and compare.
# - Error bars tell bias from noise. Where the two dotted lines meet the full ones, only a longer record helps.
