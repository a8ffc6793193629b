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
# # The density behind the score
#
# A response rests on the score $s = \nabla\log\rho$. If the score is right it is also a model of the density: it can be
# sampled, it has a likelihood, and a bound on that likelihood says at which scales it is wrong. None of this uses the
# dynamics, so it is an independent judge of what the response is made from. Here on a particle in a bent double well
# in the plane, whose density is known. The mathematics is that of Huang, Lim and Courville, arXiv:2106.02808.
#
# A part of the members is kept away from the training: what is judged on them was not memorised.

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

import gfdt
import simulators

QUICK = os.environ.get("GFDT_QUICK") == "1"
DURATION = 200.0 if QUICK else 500.0  # time units of each of 64 records
STEPS = 500 if QUICK else 1500  # of training
SAMPLES = 2000 if QUICK else 20_000

# %%
system = simulators.Potential2D()
run = system.simulate(n_members=64, duration=DURATION, save_every=0.5, seed=0)["x"]
training, judging = run.isel(member=slice(0, 40)), run.isel(member=slice(40, None))
learned = gfdt.DSMScore(max_steps=STEPS, progress=False).fit(training)
gaussian = gfdt.GaussianScore().fit(training)

# %% [markdown]
# ## Samples
# Noise is taken off step by step. Every member of the family
# $dX = (1 - \lambda/2)\, s\,|dv| + \sqrt{1 - \lambda}\, dB$, $\lambda \le 1$, leads to the same density if the score is
# exact: $\lambda = 0$ is the reverse diffusion, $\lambda = 1$ an ordinary differential equation.

# %%
samples = {
    "record": judging.values.reshape(-1, 2),
    "learned, SDE": learned.sample(SAMPLES, seed=1).values,
    "learned, ODE": learned.sample(SAMPLES, method="ode", seed=1).values,
    "Gaussian": gaussian.sample(SAMPLES, seed=1).values,
}
fig, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained", sharex=True, sharey=True)
for ax, (name, values) in zip(axes, samples.items(), strict=True):
    ax.hist2d(*values.T, bins=60, range=[[-2.0, 2.0], [-1.5, 2.2]], density=True, cmap="Greys", vmax=0.6)
    ax.set(title=name, xlabel="component 0")
axes[0].set_ylabel("component 1")
print(f"share of samples in the right-hand well: {np.mean(samples['learned, SDE'][:, 0] > 0):.3f} (SDE)")
print(f"{' ' * 41}{np.mean(samples['learned, ODE'][:, 0] > 0):.3f} (ODE)")
print(f"{' ' * 41}{np.mean(samples['record'][:, 0] > 0):.3f} (record)")

# %% [markdown]
# ## Likelihood
# `log_prob` follows each state along the ordinary differential equation to the Gaussian at the top of the noise; `elbo`
# is a lower bound that needs no derivative, and is tight if the score is exact. A score learned at noise level sigma is
# that of the data blurred by sigma; `decode=True` bounds the density of the data themselves. What
# `log_prob` lacks to the exact value is what blur and score miss, in nats. The bound is estimated with random noise: it
# may lie above by chance.

# %%
states = judging.isel(time=slice(None, None, 50))
x, y = np.moveaxis(states.values, -1, 0)
exact = np.log(system.density(x, y))
print(f"exact     ln rho   {exact.mean():.4f} nats per state")
likelihood, bounds = {}, {}
for name, score in {"learned": learned, "Gaussian": gaussian}.items():
    likelihood[name] = score.log_prob(states)
    bounds[name] = score.elbo(states)
    gap = bounds[name] - likelihood[name]
    chance = float(gap.std()) / np.sqrt(gap.size)
    average = float(likelihood[name].mean())
    print(f"{name:9s} log_prob {average:.4f}, elbo less that {float(gap.mean()):.4f} +- {chance:.4f}")

# %% [markdown]
# ## At which scales is it wrong?
# The bound is a sum over noise levels. `excess` is what the network adds to the bound of the Gaussian at each of them:
# negative where it knows more. `amplitude` is the factor that would make the non-Gaussian part best: one for an exact
# score.

# %%
scales = learned.bound(judging.isel(time=slice(None, None, 10)))
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.errorbar(scales["sigma"], scales["excess"], yerr=2 * scales["excess_stderr"], fmt="o-", color="#0072B2", capsize=3)
right.errorbar(
    scales["sigma"], scales["amplitude"], yerr=2 * scales["amplitude_stderr"], fmt="s", color="#0072B2", capsize=3
)
right.axhline(1.0, color="0.6", linewidth=0.8)
left.set(xscale="log", xlabel="noise level (standard deviations)", ylabel="excess over the Gaussian (nats)")
right.set(xscale="log", xlabel="noise level (standard deviations)", ylabel="best amplitude", ylim=(0, 2))

# %% [markdown]
# ## The certificate
# All of it in one report, on a record the score has not seen. Its verdict goes with the score, also into its file, and
# into every response made with it.

# %%
certificate = gfdt.certify(learned, judging, progress=False)
print(certificate)
gaussian_certificate = gfdt.certify(gaussian, judging, progress=False)
print("Gaussian:", gaussian_certificate.verdict, *gaussian_certificate.diagnosis, sep="\n  ")
R = gfdt.response(judging, learned, max_lag=4.0)
R.attrs["certificate_verdict"]

# %% [markdown]
# ## What is missing
# Given a part of the state, the rest can be drawn from its conditional distribution. At the height of the two wells the
# first component is one of two values, which a Gaussian does not know.

# %%
KNOWN = 0.0
given = np.array([np.nan, KNOWN])
filled = {
    name: score.sample(2000, given=given, seed=2).values[:, 0]
    for name, score in (("learned", learned), ("Gaussian", gaussian))
}
grid = np.linspace(-2.2, 2.2, 400)
conditional = system.density(grid, np.full_like(grid, KNOWN))
conditional /= conditional.sum() * (grid[1] - grid[0])
fig, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.plot(grid, conditional, "k", linewidth=3, alpha=0.35, label="exact")
for (name, values), style in zip(filled.items(), ("-.", "--"), strict=True):
    heights, edges = np.histogram(values, bins=50, range=(-2.2, 2.2), density=True)
    ax.plot(
        (edges[1:] + edges[:-1]) / 2,
        heights,
        style,
        color={"learned": "#0072B2", "Gaussian": "#D55E00"}[name],
        label=name,
    )
ax.set(xlabel=f"component 0, given component 1 = {KNOWN}", ylabel="probability density")
ax.legend(frameon=False)

# %% [markdown]
# ## To take away
# - A score that samples like the record, and whose likelihood is that of the record, is right where the record is; the
#   bound says at which scale it is not.
# - The judges are independent of the dynamics, and of each other: a wrong score has to fool all of them.
# - Given a part of a state, the score fills in the rest with the right odds, not with the mean of the possibilities.
#
# Limits: samples and likelihood need a score of all noise levels (the default; not `noise_range="local"`). They weigh
# directions as the density does, so that an error in a narrow direction shows in the identities first. In many
# dimensions the weights of conditional sampling are approximate, and it warns when they fail.
