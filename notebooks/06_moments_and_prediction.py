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
# # Moments, densities, forecasts
#
# `01_response_theory.py` ends with the response of the mean to a kick. The same theorem answers for any observable
# $A$ and for other perturbations, and the response function forecasts any small forcing,
#
# $$\delta\langle A\rangle(t) = \int_0^t R_A(t-t')\,f(t')\,dt',\qquad R_A(t) = \langle A(x(t))\,B(x(0))\rangle$$
#
# (PRL eq. 3-4; Giorgini, Deck, Bischoff and Souza, Phys. Rev. Lett. 133, 267302 (2024); higher moments:
# arXiv:2504.13333, noise and parameters: arXiv:2509.19660). The system is the scalar climate model $dx = (F + ax + bx^2
# - cx^3)\,dt + s_0\,dW$ (Ito; Majda, Franzke and Crommelin, PNAS 106, 3649 (2009)). Its density leans to one side, so
# that a push moves the variance too, and everything is known from the Fokker-Planck equation.

# %%
import os
import warnings

import matplotlib.pyplot as plt
import numpy as np

import gfdt
import simulators

QUICK = os.environ.get("GFDT_QUICK") == "1"
DURATION = 300.0 if QUICK else 2000.0  # time units of each of 64 records
STEPS = 500 if QUICK else 2000  # of training
FORCED_MEMBERS = 4000 if QUICK else 50_000
MAX_LAG = 20.0

# %%
system = simulators.ScalarClimate()
run = system.simulate(n_members=64, duration=DURATION, save_every=0.25, seed=0)
learned = gfdt.DSMScore(objective="fd-ssm", max_steps=STEPS, progress=False).fit(run)
gaussian = gfdt.GaussianScore().fit(run)

x = np.linspace(-1.5, 3.5, 251)[:, None]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.hist(run["x"].values.ravel(), bins=80, density=True, color="0.8", label="record")
left.plot(x, system.density(x), "k", linewidth=1, label="exact")
left.set(xlabel="x", ylabel="probability density", xlim=(-1.5, 3.5))
right.plot(x, system.score(x), color="0.55", linewidth=4.5, label="exact")
right.plot(x, gaussian(x), "--", color="#D55E00", label="gaussian")
right.plot(x, learned(x), "-.", color="#0072B2", label="generative")
right.set(xlabel="x", ylabel="score s(x)", ylim=(-15, 15))
for ax in (left, right):
    ax.legend(frameon=False, fontsize="small")

# %% [markdown]
# ## Mean, variance, third moment
# Several observables in one call are numbered by the dim `observable`. $x' = x - m$ is taken about the *unperturbed*
# mean: "variance" is $\langle x'^2\rangle$, "moment3" $\langle x'^3\rangle$.
#
# Two perturbations: a push of $x$, with $B = -s$, and the noise, $s_0 \to s_0 + f$, with
# $B = s_0\,(s' + s^2)$ (arXiv:2509.19660).

# %%
MOMENTS = ["mean", "variance", "moment3"]
perturbations = {"drift": np.array([1.0]), "noise": gfdt.NoiseAmplitude(system.noise)}
moments = {
    kind: gfdt.response(run, learned, max_lag=MAX_LAG, observable=MOMENTS, perturbation=perturbation)
    for kind, perturbation in perturbations.items()
}
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    gaussian_moments = {
        kind: gfdt.response(run, gaussian, max_lag=MAX_LAG, observable=MOMENTS, perturbation=perturbation)
        for kind, perturbation in perturbations.items()
    }
for warning in said:
    print("Gaussian score:", warning.message)
lags = moments["drift"]["lag"].values


def exact_response(moment, kind):
    """Return the exact response of a moment, dims (lag,)."""
    return system.exact_response(lags, observable=moment, perturbation=kind).squeeze(drop=True)


fig, axes = plt.subplots(2, 3, figsize=(11, 5.6), layout="constrained", sharex=True)
departures = {}
for row, kind in zip(axes, moments, strict=True):
    for ax, moment in zip(row, MOMENTS, strict=True):
        exact = exact_response(moment, kind)
        found = moments[kind].sel(observable=moment).squeeze(drop=True)
        classical = gaussian_moments[kind].sel(observable=moment).squeeze(drop=True)
        gfdt.plot_responses({"exact": exact, "gaussian": classical, "generative": found}, ax=ax)
        ax.set_title(f"{moment} under a change of the {kind}", fontsize="medium")
        departures[kind, moment] = ((found["response"] - exact) / found["stderr"]).isel(lag=slice(1, None))
for (kind, moment), z in departures.items():
    print(f"{moment:8s} ({kind}): rms departure from the exact response {float(np.sqrt((z**2).mean())):.1f} s.e.")

# %% [markdown]
# A push towards larger $x$ narrows the distribution, and more noise lowers the mean: the drift pulls back harder from
# above than from below. A linear model has neither effect. The Gaussian score puts numbers of its own there; that they
# miss what is known at $t = 0$ is what a warning says.
#
# ## The whole density
# With `gfdt.Density` the observable is the probability density itself, blurred by a narrow kernel, at many points.

# %%
values, WIDTH = np.linspace(-1.5, 3.5, 101), 0.08
density = gfdt.Density(values=values, bandwidth=WIDTH)
R_pdf = gfdt.response(run, learned, max_lag=MAX_LAG, observable=density, perturbation=perturbations["drift"])


def kernel(points):
    """Return Gaussian kernels of all values at points (n,), shape (n, value)."""
    return np.exp(-0.5 * ((values - points[:, None]) / WIDTH) ** 2) / (WIDTH * np.sqrt(2 * np.pi))


exact_pdf = system.exact_response(lags, observable=kernel, perturbation="drift").squeeze(drop=True)
fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
for ax, lag in zip(axes, (0.0, 1.0, 5.0), strict=True):
    line = R_pdf.sel(lag=lag).squeeze(drop=True)
    ax.plot(values, exact_pdf.sel(lag=lag), color="0.55", linewidth=4.5, label="exact")
    ax.plot(values, line["response"], "-.", color="#0072B2", label="from the record")
    ax.fill_between(values, line["lower"], line["upper"], color="#0072B2", alpha=0.3, linewidth=0)
    ax.set(xlabel="x", title=f"lag {lag:g}")
axes[0].set_ylabel("response of the density")
axes[0].legend(frameon=False, fontsize="small")

# %% [markdown]
# At lag 0 the density is shifted as it is, $-\partial_x\rho$. Later the left tail is what still remembers.
#
# ## A forecast, and the forced run
# A constant push switched on at $t = 0$, and a wave. `predict` needs the response alone. `forced_response` does what
# it spares: an ensemble with the forcing, each member beside a twin without it under the same noise.

# %%
AMPLITUDE, PERIOD = 0.03, 8.0
forcings = {
    "step": lambda t: AMPLITUDE * np.ones_like(t),
    "sine": lambda t: AMPLITUDE * np.sin(2 * np.pi * t / PERIOD),
}
R_mean = moments["drift"].sel(observable="mean")
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
forecasts, forced = {}, {}
for ax, (name, forcing) in zip(axes, forcings.items(), strict=True):
    forecasts[name] = gfdt.predict(R_mean, forcing)
    forced[name] = system.forced_response(forcing, MAX_LAG, 0.25, n_members=FORCED_MEMBERS, seed=1)
    gfdt.plot_prediction(forecasts[name], forced[name], ax=ax)
    ax.set_title(name)
    change = forced[name]["response"]
    worst = float(abs(forecasts[name]["prediction"] - change).max() / abs(change).max())
    print(f"{name}: largest difference {worst:.1%} of the largest change, linear range {forecasts[name].linear_range}")

# %% [markdown]
# The response of the density forecasts the new density. Under the step it settles at the stationary density of the
# model with $F + f$, which nobody told the forecast.

# %%
forecast_pdf = gfdt.predict(R_pdf, forcings["step"]).isel(time=-1).squeeze(drop=True)


def settled(forcing=0.0, noise=0.0):
    """Return points, and the stationary density at them, of the model with F and s_0 changed."""
    points = np.linspace(-4.0, 5.0, 4001)
    changed = simulators.ScalarClimate(forcing=system.forcing + forcing, noise=system.noise + noise)
    return points, changed.density(points)


def settled_change(observable, **change):
    """Return <A> of the changed model less <A> of the unchanged one, by quadrature."""
    points, new = settled(**change)
    return np.trapezoid((new - settled()[1])[:, None] * observable(points).reshape(len(points), -1), points, axis=0)


exact_change = settled_change(kernel, forcing=AMPLITUDE)
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.plot(values, exact_change, color="0.55", linewidth=4.5, label="exact")
ax.plot(values, forecast_pdf["prediction"], "-.", color="#0072B2", label="forecast")
ax.fill_between(values, forecast_pdf["lower"], forecast_pdf["upper"], color="#0072B2", alpha=0.3, linewidth=0)
ax.set(xlabel="x", ylabel="change of the density")
ax.legend(frameon=False, fontsize="small")

# %% [markdown]
# More noise, by 0.01 and for good: mean and variance.

# %%
NOISE_STEP = 0.01
mean = np.trapezoid(settled()[0] * settled()[1], settled()[0])
louder = gfdt.predict(moments["noise"], lambda t: NOISE_STEP * np.ones_like(t)).isel(time=-1).squeeze(drop=True)
truths = {
    "mean": settled_change(lambda p: p, noise=NOISE_STEP).item(),
    "variance": settled_change(lambda p: (p - mean) ** 2, noise=NOISE_STEP).item(),
}
for moment, value in truths.items():
    item = louder.sel(observable=moment)
    print(f"{moment:8s} forecast {float(item.prediction):+.5f} +- {float(item.stderr):.5f}, exact {value:+.5f}")

# %% [markdown]
# ## How small is small?
# A forecast is the first order in the push. Here the settled mean is known at any push, so the error can be seen.
# `predict` calls a change beyond 0.2 natural standard deviations outside the linear range, and warns.

# %%
pushes = np.linspace(-0.3, 0.3, 61)
natural = float(run["x"].std())
slope = gfdt.step_response(R_mean).isel(lag=-1).squeeze(drop=True)
true_mean = np.array([settled_change(lambda p: p, forcing=f).item() for f in pushes])
fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
ax.plot(pushes, true_mean / natural, color="0.55", linewidth=4.5, label="exact")
ax.plot(pushes, float(slope["response"]) * pushes / natural, "-.", color="#0072B2", label="linear, from the record")
ax.fill_between(pushes, -0.2, 0.2, color="0.9", label="linear range", zorder=0)
ax.set(xlabel="constant push f", ylabel="shift of the mean (standard deviations)")
ax.legend(frameon=False, fontsize="small")

with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    too_far = gfdt.predict(R_mean, lambda t: 0.3 * np.ones_like(t))
print(said[0].message)

# %% [markdown]
# ## Frequencies
# The susceptibility $\chi(\omega) = \int_0^\infty e^{i\omega t} R(t)\,dt$ says how much of a slow or a fast wave comes
# through, and how late.

# %%
omega = np.linspace(0.0, 6.0, 61)
chi = gfdt.susceptibility(R_mean.squeeze("component", drop=True), omega)
chi_exact = gfdt.susceptibility(exact_response("mean", "drift"), omega)
ax = gfdt.plot_susceptibility(chi)
ax.plot(omega, chi_exact["real"], "k:", linewidth=1, label="exact")
ax.plot(omega, chi_exact["imag"], "k:", linewidth=1)
ax.set_xlabel("angular frequency ω (1/time unit)")
ax.legend(frameon=False, fontsize="small")

# %% [markdown]
# ## To take away
# - One record answers for any observable: moments, probabilities, the density itself; and for pushes and noise alike.
# - Higher moments need more data: their bands are wider, and a score has to be right further out.
# - A response forecasts every forcing at once, with error bars, as long as the change is small against the natural
#   spread.
#
# Limits: first order in the forcing; the record must contain the states that the forcing leads to; `NoiseAmplitude` is
# for additive noise, whose amplitude must be known. The inverse question, which forcing was it, is
# `07_which_forcing.py`.
