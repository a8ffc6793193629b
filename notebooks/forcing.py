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
# # From a response to a forecast
#
# `double_well.py` ends with a response function $R(t)$. Here we use one: for any small forcing $f(t)$ the mean of an
# observable $A$ moves by
# $$\delta\langle A\rangle(t) = \int_0^t R(t-t')\,f(t')\,dt',$$
# so the same $R$ forecasts a switch, a ramp or a wave, tells how much of which frequency comes through, which push
# moves the system most, and which push was behind a change that was seen. All of it with error bars, and all of it from
# data in which nothing was pushed. Systems whose answer is known check every step.

# %%
import warnings

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import gfdt
import simulators

DURATION = 1000.0
FORCED_MEMBERS = 20_000

# %% [markdown]
# ## The response of the mean, and of everything else
# A double well again, $dx = (x - x^3)\,dt + s\,dW$, and a kernel estimate of its score. The observable may be any
# function of the state: with `gfdt.Density` it is the probability density itself, point by point.

# %%
system = simulators.DoubleWell()
run = system.simulate(n_members=64, duration=DURATION, save_every=0.25, seed=0)
score = gfdt.KDEScore().fit(run)

kick = np.array([1.0])  # one pattern: the push of the only component, so that f(t) is a plain number
R_mean = gfdt.response(run, score, max_lag=30.0, perturbation=kick)
density = gfdt.Density(values=np.linspace(-2.0, 2.0, 81), bandwidth=0.05)
R_pdf = gfdt.response(run, score, max_lag=30.0, perturbation=kick, observable=density)

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
exact = system.exact_response(R_mean["lag"].values).squeeze("component_src")
gfdt.plot_responses({"exact": exact, "from data": R_mean}, ax=left)
for lag in (0.0, 1.0, 5.0, 15.0):
    R_pdf["response"].sel(lag=lag).squeeze().plot(ax=right, label=f"lag {lag:g}")
right.set(title="", xlabel="x", ylabel="response of the density")
right.legend(frameon=False)

# %% [markdown]
# At lag 0 the density is shifted as it is, $-\partial_x\rho$; what stays for long is the exchange between the wells.
#
# ## A forecast
# A constant push switched on at $t = 0$, and a wave. `forced_response` does what the forecast avoids: it runs an
# ensemble with the forcing and its twin without, under the same noise.

# %%
AMPLITUDE, PERIOD = 0.03, 12.0
forcings = {
    "step": lambda t: AMPLITUDE * np.ones_like(t),
    "sine": lambda t: AMPLITUDE * np.sin(2 * np.pi * t / PERIOD),
}
fig, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
errors = {}
for ax, (name, forcing) in zip(axes, forcings.items(), strict=True):
    forecast = gfdt.predict(R_mean, forcing)
    truth = system.forced_response(forcing, 30.0, 0.25, n_members=FORCED_MEMBERS, seed=1)
    gfdt.plot_prediction(forecast, truth, ax=ax)
    ax.set_title(name)
    combined = np.hypot(forecast["stderr"], truth["stderr"])
    errors[name] = ((forecast["prediction"] - truth["response"]) / combined).isel(time=slice(1, None))
    largest = float(abs(errors[name]).max())
    print(f"{name}: linear range {forecast.attrs['linear_range']}, largest difference {largest:.1f} standard errors")

# %% [markdown]
# The whole density, too. Under a constant push it settles at $\rho\,e^{f x/D}/Z$ with $D = s^2/2$, which nobody told
# the forecast.

# %%
forecast_pdf = gfdt.predict(R_pdf, forcings["step"]).isel(time=-1).squeeze()
x = forecast_pdf["value"].values


def settled(push):
    """Stationary density under a constant push."""
    weight = np.exp(-(x**4 / 4 - x**2 / 2 - push * x) / (system.noise**2 / 2))
    return weight / (weight.sum() * (x[1] - x[0]))


fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.fill_between(x, forecast_pdf["lower"], forecast_pdf["upper"], alpha=0.3, lw=0)
ax.plot(x, forecast_pdf["prediction"], label="forecast")
ax.plot(x, settled(AMPLITUDE) - settled(0.0), "k--", label="exact")
ax.set(xlabel="x", ylabel="change of the density")
ax.legend(frameon=False)

# %% [markdown]
# ## How small is small?
# The forecast says so itself: a change of more than 0.2 natural standard deviations is called outside the linear range.

# %%
strong = 10 * AMPLITUDE
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    too_far = gfdt.predict(R_mean, lambda t: strong * np.ones_like(t))
really = system.forced_response(strong, 30.0, 0.25, n_members=FORCED_MEMBERS // 10, seed=2)
gfdt.plot_prediction(too_far, really)
print(said[0].message)

# %% [markdown]
# ## Frequencies
# The susceptibility $\chi(\omega) = \int_0^\infty e^{i\omega t} R(t)\,dt$: slow waves move the particle from well
# to well, fast ones only within a well.

# %%
omega = np.linspace(0.0, 3.0, 61)
chi = gfdt.susceptibility(R_mean, omega)
chi_exact = gfdt.susceptibility(exact, omega)
ax = gfdt.plot_susceptibility(chi)
ax.plot(omega, chi_exact["real"].squeeze(), "k:", omega, chi_exact["imag"].squeeze(), "k:", lw=1)

# %% [markdown]
# ## Which push moves a system most?
# A chain of four: each component drives the next, nothing runs back. The response matrix comes from the data; the exact
# answer is $\int_0^\infty R\,dt = -B^{-1}$.

# %%
B = np.array([[-0.5, 0.0, 0.0, 0.0], [0.6, -0.6, 0.0, 0.0], [0.0, 0.8, -0.7, 0.0], [0.0, 0.0, -0.5, -0.8]])
chain = simulators.LinearSDE(B, np.eye(4))
chain_run = chain.simulate(n_members=64, duration=DURATION, save_every=0.25, seed=1)
R = gfdt.response(chain_run, gfdt.GaussianScore().fit(chain_run), max_lag=25.0)

best = gfdt.optimal_forcing(R)  # the unit push of largest response, in natural standard deviations
spread = np.sqrt(np.diagonal(chain.exact_covariance()))
exact_best = np.linalg.svd(-np.linalg.inv(B) * spread / spread[:, None])[2][0]
overlap = abs(float(best["forcing"].values / spread @ exact_best))
print(f"pattern {best['forcing'].values.round(2)}, cosine with the exact one {overlap:.3f}")
print(f"gain {best.attrs['gain']:.2f} +- {best.attrs['gain_stderr']:.2f}")

# %% [markdown]
# ## What was behind a change?
# Somebody pushes the first component and the last, and all we see is where the means settle, with an error. Seen whole,
# the push is found. Seen in the last two components alone it is not, and the answer says so: what the data do not fix
# keeps the width of the prior, and the resolution is low.

# %%
push = np.array([0.1, 0.0, 0.0, -0.05])
noise = 0.01 * np.random.default_rng(0).standard_normal(4)
change = xr.DataArray(-np.linalg.inv(B) @ push + noise, dims="component")

full = gfdt.attribute(R, change, stderr=0.01)
part = gfdt.attribute(R.isel(component=[2, 3]), change.isel(component=[2, 3]), stderr=0.01)
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for offset, (name, found) in enumerate({"all four seen": full, "last two seen": part}.items()):
    at = np.arange(4) + 0.15 * (2 * offset - 1)
    half = (found["upper"] - found["lower"]).values / 2
    ax.errorbar(at, found["forcing"].values, half, fmt="os"[offset], capsize=3, label=name)
ax.plot(np.arange(4), push, "k_", markersize=20, label="true push")
ax.set(xlabel="component that was pushed", ylabel="push", xticks=range(4))
ax.legend(frameon=False, loc="lower left")
print(part.attrs["summary"])
print("resolution", part["resolution"].values.round(2))

# %% [markdown]
# ## Who drives whom?
# Correlations run both ways along the chain; responses do not.

# %%
links = gfdt.causal_strength(R)
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
correlation = np.corrcoef(chain_run["x"].values.reshape(-1, 4).T)
for ax, values, title in ((left, correlation, "correlation"), (right, links["link"].values, "causal links")):
    ax.imshow(values, cmap="RdBu_r" if ax is left else "Greys", vmin=-1 if ax is left else 0, vmax=1)
    ax.set(title=title, xlabel="from", ylabel="to", xticks=range(4), yticks=range(4))
print(f"{links.attrs['n_links']} links of {links.attrs['n_tests']} at a false discovery rate of {links.attrs['level']}")
