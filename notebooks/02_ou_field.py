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
# # A field in which everything is exact
#
# The Ornstein-Uhlenbeck field of the PRL (eq. 6; Giorgini, Deck, Bischoff and Souza, Phys. Rev. Lett. 133, 267302
# (2024)) on a periodic box of 32 x 32 cells,
#
# $$\partial_t u = -\lambda\Sigma u + \kappa\nabla^2 u - c\,\partial_x u + \varepsilon\,\Sigma^{1/2}\xi,\qquad
#   \Sigma = (1 - \nabla^2)^{-1},$$
#
# Ito, with space-time white noise $\xi$. It is linear and homogeneous, so every wavenumber is a process of its own,
# with rate $r_k = \lambda/(1+k^2) + \kappa k^2$ and frequency $c\,k_x$. Covariance, score and response are known in
# closed form. It is Gaussian, so the Gaussian and the learned estimate have to agree with them: this is the test that a
# method must pass before it is used on anything else.

# %%
import os
import warnings

import matplotlib.pyplot as plt
import numpy as np

import gfdt
import simulators

QUICK = os.environ.get("GFDT_QUICK") == "1"
MEMBERS = 24 if QUICK else 48
DURATION = 500.0 if QUICK else 1250.0  # time units of each record
STEPS = 10 if QUICK else 150  # of training
MAX_LAG = 40.0

# %% [markdown]
# ## The record
# The transition law of every mode is known for any time step, so `simulate` samples it: a snapshot each 2.5 time units
# has no error of discretisation. The field drifts towards $-x$ ($c = -0.02$).

# %%
system = simulators.OrnsteinUhlenbeck()
run = system.simulate(n_members=MEMBERS, duration=DURATION, save_every=2.5, seed=0, dtype="float32")
fig, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
gfdt.plot_snapshots(run, times=(0, 8, 16), ax=axes)
rates = system.rate()
print(f"relaxation times 1/r_k from {1 / rates.max():.0f} to {1 / rates.min():.0f} time units")

# %% [markdown]
# ## Covariance
# $\langle u(x')\,u(x'+r)\rangle$ by displacement $r$, from the record by Fourier transform, with the standard error
# from the spread of the members.

# %%
power = np.abs(np.fft.fft2(run["u"].values)) ** 2 / 32**4
measured = np.fft.fftshift(np.fft.ifft2(power.mean(axis=1), norm="forward").real, axes=(-2, -1))  # (member, dy, dx)
covariance = system.exact_covariance()
centre = measured[:, 16, :].mean(axis=0)
error = measured[:, 16, :].std(axis=0, ddof=1) / np.sqrt(MEMBERS)
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.plot(covariance["dx"], covariance.sel(dy=0), color="0.55", linewidth=4.5, label="exact")
ax.errorbar(covariance["dx"], centre, 2 * error, fmt="k.", capsize=2, label="record, 2 s.e.")
ax.set(xlabel="displacement dx (cells)", ylabel="covariance of u")
ax.legend(frameon=False)

# %% [markdown]
# ## Score
# Exact: $s(u) = \frac{2}{\varepsilon^2 n^2}\,(-\lambda u + \kappa\nabla^2 u - \kappa\nabla^4 u) = -C^{-1}u$, with
# $n = 32$ (the grid has $n^2$ degrees of freedom; see `help(simulators.ou)`). `homogeneous=("y", "x")` says that the
# field looks the same everywhere: the Gaussian score then has one number for each wavenumber, and the learned one is a
# network that commutes with shifts.

# %%
HOMOGENEOUS = ("y", "x")
gaussian = gfdt.GaussianScore(homogeneous=HOMOGENEOUS).fit(run)
learned = gfdt.DSMScore(homogeneous=HOMOGENEOUS, max_steps=STEPS, progress=False).fit(run)
scores = {"analytical": gfdt.AnalyticScore(system.score), "gaussian": gaussian, "generative": learned}

fresh = system.simulate(n_members=4, duration=250.0, save_every=25.0, seed=99)["u"]
truth = system.score(fresh).values
score_error = {
    name: float(np.linalg.norm(score(fresh).values - truth) / np.linalg.norm(truth)) for name, score in scores.items()
}
for name, value in score_error.items():
    print(f"{name:10s} relative L2 error of the score on new fields {value:.2e}")
print("the learned score kept:", learned.selected_)

# %% [markdown]
# "gaussian start" means that no step of the training predicted held-out fields better than the Gaussian by two standard
# errors, and that nothing was added to it. For a Gaussian field that is the right answer.
#
# ## Response by displacement
# One cell is kicked at $t = 0$. What matters is only the displacement from it, so the estimate is an average over all
# kick sites, and the result has dims (lag, dy, dx): `.sel(dy=0, dx=-1)` is one cell downstream here.

# %%
responses = {
    name: gfdt.response(run, score, max_lag=MAX_LAG, homogeneous=HOMOGENEOUS, progress=False)
    for name, score in scores.items()
}
lags = responses["gaussian"]["lag"].values
exact = system.exact_response(lags)
shown = {"exact": exact, "Gaussian": responses["gaussian"]["response"], "learned": responses["generative"]["response"]}
fig, axes = plt.subplots(3, 3, figsize=(7, 6.6), layout="constrained", sharex=True, sharey=True)
for row, lag in zip(axes, (2.5, 15.0, 40.0), strict=True):
    for ax, (name, R) in zip(row, shown.items(), strict=True):
        top = float(exact.sel(lag=lag).max())
        image = ax.pcolormesh(R["dx"], R["dy"], R.sel(lag=lag), cmap="RdBu_r", vmin=-top, vmax=top)
        ax.set_title(f"{name}, lag {lag:g}", fontsize="medium")
        ax.set(aspect="equal", xlim=(-9, 9), ylim=(-9, 9))
    fig.colorbar(image, ax=row, label="response R")
fig.supxlabel("displacement dx (cells)")
fig.supylabel("displacement dy (cells)")

# %% [markdown]
# The kick spreads, fades and is carried along with $c$. All three columns show it; what differs is not seen on this
# scale.
#
# ## Twins
# The experiment that the theorem replaces: pairs of runs under the same noise, kicked by $\pm a$. A random pattern
# kicks all sites at once. In a linear field the noise drops out of the difference of two twins, so that even a few
# pairs have no sampling error: the twins differ from the closed form by rounding alone.

# %%
twins = system.direct_response(MAX_LAG, 2.5, n_members=4, perturbation="pattern", seed=3)
comparison = gfdt.compare(exact, {**responses, "twins": twins})
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
gfdt.plot_responses({"exact": exact, **responses}, at={"dy": 0, "dx": 0}, ax=left)
left.plot(twins["lag"], twins["response"].sel(dy=0, dx=0), "k.", label="twins")
left.legend(frameon=False, fontsize="small")
gfdt.plot_errors(comparison.drop_sel(estimator="twins"), ax=right)
comparison[["rms_overall", "max_overall", "relative", "coverage"]].to_dataframe()

# %% [markdown]
# The Gaussian and the learned estimate err as much as the one with the exact score, or hardly more: what is left is
# sampling. The bands are honest if about 95 % of the cells hold the exact value ("coverage"; the twins have no error to
# speak of, and their band does not mean anything here).
#
# ## Green function
# `green_function` transforms the response in space and time. A forcing per cell $\mathrm{Re}\,f e^{i(kx-\omega t)}$
# moves the field by $\mathrm{Re}\,G(k,\omega)\,f e^{i(kx-\omega t)}$, and here
#
# $$G(k,\omega) = \int_0^\infty e^{i\omega t}\,e^{-(r_k + i c k_x)t}\,dt = \frac{1}{r_k + i\,(c k_x - \omega)} :$$
#
# a resonance of width $r_k$ at the frequency with which a wave is carried past. Modes that live longer than the largest
# lag are cut off; the function says so, and the exact response cut at the same lag shows what that does.

# %%
omega = np.linspace(-0.4, 0.4, 161)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    R_long = gfdt.response(run, gaussian, max_lag=100.0, homogeneous=HOMOGENEOUS, progress=False)
    green = gfdt.green_function(R_long, omega)
    green_cut = gfdt.green_function(system.exact_response(R_long["lag"].values), omega)
print(said[0].message)

fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
departures = []
for ax, kx in zip(axes, (2, 8), strict=True):
    line, cut = green.sel(ky=0, kx=kx), green_cut.sel(ky=0, kx=kx)
    closed = 1 / (rates[0, kx] + 1j * (system.advection * kx - omega))
    ax.plot(omega, np.abs(closed), "k:", linewidth=1, label="closed form")
    ax.plot(omega, cut["amplitude"], color="0.55", linewidth=4.5, label="exact, cut at the last lag")
    ax.plot(omega, line["amplitude"], "--", color="#D55E00", label="from the record")
    ax.set(xlabel="angular frequency ω (1/time unit)", ylabel="|G|", title=f"kx = {kx}, ky = 0")
    departures.append(((line["real"] - cut["real"]) / line["real_stderr"]).values)
axes[0].legend(frameon=False, fontsize="small", loc="upper right")

# %% [markdown]
# ## To take away
# - In a Gaussian system the Gaussian estimate $C(t)\,C(0)^{-1}$ is exact, and the learned score is the Gaussian one.
#   Nothing is lost by learning, and nothing gained.
# - A homogeneous field has one response function of displacement. Averaging over kick sites makes it cheap and sharp.
# - With an exact score there is still the error of sampling: long lags of slow modes need long records.
#
# Limits: `homogeneous` needs a periodic field that is statistically the same everywhere; for other fields the full
# matrix is estimated, which takes more memory and more data.
