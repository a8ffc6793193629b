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
# # Which forcing was it?
#
# `06_moments_and_prediction.py` goes from a forcing to the change it makes. Here the questions run the other way. Which
# push moves a system most? Which one makes a change that is wanted? Which one is behind a change that was seen, and
# what can nobody tell? Who drives whom? All answers are read off one response matrix $R_{ij}(t)$, estimated from an
# unperturbed record, and all of them carry its error on.
#
# The system is a chain of four, $dx = Bx\,dt + dW$: each component drives the next and nothing runs back. Every answer
# is known: $R(t) = e^{Bt}$, and under a constant push $f$ the mean settles at $-B^{-1}f$. It is Gaussian, so that the
# Gaussian score will do. The functions take the response of any system.

# %%
import os
import warnings

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gfdt
import simulators

QUICK = os.environ.get("GFDT_QUICK") == "1"
DURATION = 300.0 if QUICK else 3000.0  # time units of each of 64 records
MAX_LAG = 25.0

# %%
B = np.array([[-0.5, 0.0, 0.0, 0.0], [0.6, -0.6, 0.0, 0.0], [0.0, 0.8, -0.7, 0.0], [0.0, 0.0, -0.5, -0.8]])
chain = simulators.LinearSDE(B, np.eye(4))
run = chain.simulate(n_members=64, duration=DURATION, save_every=0.25, seed=3)
R = gfdt.response(run, gfdt.GaussianScore().fit(run), max_lag=MAX_LAG)
exact = chain.exact_response(R["lag"].values)
fig, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained", sharey=True)
for target, ax in enumerate(axes):
    gfdt.plot_responses({"exact": exact, "gaussian": R}, at={"component": target, "component_src": 0}, ax=ax)
    ax.set_title(f"component {target}, component 0 kicked", fontsize="medium")

# %% [markdown]
# ## Who drives whom?
# Correlations run both ways along the chain. Responses do not: a link is a response that cannot be noise about zero, at
# a false discovery rate of 5 % over all pairs (Falasca, Perezhogin and Zanna, Phys. Rev. E 109, 044202 (2024)).

# %%
links = gfdt.causal_strength(R)
correlation = np.corrcoef(run["x"].values.reshape(-1, 4).T)
fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
panels = {
    "correlation": (correlation, "RdBu_r", -1, 1),
    "strength $\\int R^2 dt$": (links["strength"].values, "Greys", 0, None),
    "links (black)": (links["link"].values, "Greys", 0, 1),
}
for ax, (title, (matrix, colours, low, high)) in zip(axes, panels.items(), strict=True):
    image = ax.imshow(matrix, cmap=colours, vmin=low, vmax=high)
    ax.set(title=title, xlabel="from component", ylabel="to component", xticks=range(4), yticks=range(4))
    if "links" not in title:
        fig.colorbar(image, ax=ax)
print(f"{links.attrs['n_links']} links of {links.attrs['n_tests']} at a false discovery rate of {links.attrs['level']}")

# %% [markdown]
# A link may be indirect: component 0 drives component 2 through component 1. And a false discovery rate of 5 % is an
# average over records: the estimates of one record share their noise, so that false links, where there are any, tend to
# come together. Try another `seed`.
#
# ## Which push moves it most?
# Among all constant pushes of unit size, pushes and changes both measured in natural standard deviations: the leading
# singular vector of the integrated response.

# %%
best = gfdt.optimal_forcing(R)
spread = np.sqrt(np.diagonal(chain.exact_covariance()))
_, gains, patterns = np.linalg.svd(-np.linalg.inv(B) * spread / spread[:, None])
found = best["forcing"].values / spread
overlap = abs(float(found @ patterns[0])) / np.linalg.norm(found)
print(f"pattern {best['forcing'].values.round(2)}, cosine with the exact one {overlap:.4f}")
print(f"gain {best.attrs['gain']:.2f} +- {best.attrs['gain_stderr']:.2f}, exact {gains[0]:.2f}")

# %% [markdown]
# ## Which push makes a wanted change?
# Move the third component by 0.2 and leave the others where they are. A push of that component alone would move the
# last one as well. "Effort" is not priced here but the error of $R$ is: directions in which the response is not known
# are not used.

# %%
wanted = xr.DataArray([0.0, 0.0, 0.2, 0.0], dims="component")
plan = gfdt.optimal_forcing(R, wanted)
reached = -np.linalg.inv(B) @ plan["forcing"].values  # what this push really does
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
axes[0].bar(range(4), plan["forcing"].values, color="#0072B2", width=0.5, label="found")
axes[0].plot(range(4), -B @ wanted.values, "k_", markersize=26, label="exact")
axes[0].set(xlabel="component that is pushed", ylabel="push", xticks=range(4))
half = (plan["achieved_upper"] - plan["achieved_lower"]).values / 2
axes[1].errorbar(range(4), plan["achieved"].values, half, fmt="o", color="#0072B2", capsize=4, label="expected, 95 %")
axes[1].plot(range(4), reached, "kx", label="really happens")
axes[1].set(xlabel="component", ylabel="change of the mean", xticks=range(4))
for ax in axes:
    ax.axhline(0.0, color="0.7", linewidth=0.6, zorder=0)
    ax.legend(frameon=False, fontsize="small")

# %% [markdown]
# ## What was behind a change?
# Somebody pushes the first component and the last, and we see where the means settle, with an error of 0.01.
# `attribute` returns the posterior of the push: with all four components seen, and with the last two alone. In the
# second case the data fix two numbers and four are asked for. The answer says so: the *resolution* of a push is 1 where
# the data fix it and 0 where they say nothing, and its band is then as wide as the prior.

# %%
push, STDERR = np.array([0.1, 0.0, 0.0, -0.05]), 0.01
rng = np.random.default_rng(0)
change = xr.DataArray(-np.linalg.inv(B) @ push + STDERR * rng.standard_normal(4), dims="component")
last_two = {"component": [2, 3]}
full = gfdt.attribute(R, change, stderr=STDERR)
part = gfdt.attribute(R.isel(last_two), change.isel(last_two), stderr=STDERR, forcing_scale=R["observable_std"])


def draw(answers, styles=("o#0072B2", "s#D55E00")):
    """Draw pushes with their bands beside the true one, and their resolution."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for index, (name, found) in enumerate(answers.items()):
        at = np.arange(4) + 0.2 * (index - (len(answers) - 1) / 2)
        half = (found["upper"] - found["lower"]).values / 2
        marker, colour = styles[index][0], styles[index][1:]
        left.errorbar(at, found["forcing"].values, half, fmt=marker, color=colour, capsize=3, label=name)
        right.plot(np.arange(4), found["resolution"].values, f"{marker}-", color=colour, label=name)
    left.plot(np.arange(4), push, "k_", markersize=26, label="true push")
    left.set(xlabel="component that was pushed", ylabel="push", xticks=range(4))
    right.set(xlabel="component that was pushed", ylabel="resolution", xticks=range(4), ylim=(-0.05, 1.05))
    fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)


draw({"all four seen": full, "last two seen": part})
print("all four:", full.attrs["summary"])
print("last two:", part.attrs["summary"])

# %% [markdown]
# Which combinations of pushes are known, and which are not, is in `direction`, from the best to the least known.

# %%
fig, ax = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
image = ax.imshow(part["direction"].values, cmap="RdBu_r", vmin=-1, vmax=1)
labels = [f"{value:.2f}" for value in part["direction_resolution"].values]
ax.set(xlabel="component that was pushed", ylabel="resolution of the combination", xticks=range(4))
ax.set_yticks(range(len(labels)), labels)
fig.colorbar(image, ax=ax, label="weight")

# %% [markdown]
# ## The way there tells more than the end
# The same two components, but seen at several times after the push began. A push of the first component arrives late,
# one of the third at once: the resolution rises.

# %%
times = np.array([0.5, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 25.0])
identity = np.eye(4)
history = np.stack([np.linalg.solve(B, (chain.exact_response([t]).values[0] - identity) @ push) for t in times])
history += STDERR * rng.standard_normal(history.shape)
seen = xr.DataArray(history, dims=("time", "component"), coords={"time": times}).isel(last_two)
course = gfdt.attribute(R.isel(last_two), seen, stderr=STDERR, forcing_scale=R["observable_std"])
draw({"last two, at the end": part, "last two, at eight times": course}, ("s#D55E00", "^#009E73"))
print(f"degrees of freedom {part.attrs['degrees_of_freedom']:.1f} -> {course.attrs['degrees_of_freedom']:.1f}")

# %% [markdown]
# ## A change that was no push
# If nothing explains a change, that should be said as well. Here the same components drift away and come back, which no
# constant push does: `p_value` is the probability of so large a residual, and `attribute` warns below 0.001.

# %%
bump = seen.copy(data=0.3 * np.outer(np.exp(-((times - 5.0) ** 2) / 2), [1.0, -1.0]))
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    wrong = gfdt.attribute(R.isel(last_two), bump, stderr=STDERR, forcing_scale=R["observable_std"])
print(f"a real push: p = {course.attrs['p_value']:.2f}; the bump: p = {wrong.attrs['p_value']:.1e}")
print(said[0].message)

# %% [markdown]
# ## To take away
# - One response matrix answers forward and backward questions, with its errors carried on.
# - Read `resolution` before `forcing`: an inverse problem always has an answer, and not always one that the data know.
# - Times resolve what a final state cannot.
#
# Limits: pushes are constant in time in `attribute`, their directions those of $R$ (what was not perturbed cannot be
# found); errors of the observations are taken as independent; everything is first order in the push. A link says that
# one component acts on another within the record's state, not that nothing unseen stands between them.
