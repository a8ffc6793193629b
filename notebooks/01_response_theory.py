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
# # Response theory on one page: the double well
#
# A system fluctuates about its steady state. If it is pushed a little, how do its averages move? One way is to push it,
# again and again. The other is to look at how it fluctuates when nobody pushes: the generalized
# fluctuation-dissipation theorem (GFDT) turns a record of the *unperturbed* system into its response. This page does
# so for a particle in a double well, $dx = (x - x^3)\,dt + s\,dW$ (Ito), for which everything can be checked.
#
# PRL below is Giorgini, Deck, Bischoff and Souza, Phys. Rev. Lett. 133, 267302 (2024).

# %%
import os

import matplotlib.pyplot as plt
import numpy as np

import gfdt
import simulators

QUICK = os.environ.get("GFDT_QUICK") == "1"
DURATION = 200.0 if QUICK else 1000.0  # time units of each of 64 records
STEPS = 400 if QUICK else 1500  # of training
TWINS = 1000 if QUICK else 10_000  # members of the twin experiment

# %% [markdown]
# ## What is asked
# Displace the particle by a small $a$ at time zero, and follow it beside a twin that was not displaced and feels the
# same noise. The mean distance of the twins over $a$ is the response $R(t)$ of the mean to a kick. This takes a
# simulator; few systems of interest can be kicked at will.

# %%
system = simulators.DoubleWell()
MAX_LAG = 6.0
twins = system.direct_response(MAX_LAG, 0.5, n_members=TWINS, seed=7)
exact = system.exact_response(np.arange(0.0, MAX_LAG + 0.05, 0.1))  # Fokker-Planck equation on a grid
ax = gfdt.plot_responses({"exact": exact})
ax.errorbar(twins["lag"], twins["response"].squeeze(), 2 * twins["stderr"].squeeze(), fmt="k.", label="twins, 2 s.e.")
ax.legend(frameon=False)

# %% [markdown]
# ## The theorem
# The density obeys $\partial_t\rho = \mathcal L\rho$, and the record is stationary, $\mathcal L\rho = 0$. A force
# $f(t)\,w(x)$ adds $-f\,\nabla\!\cdot(w\rho)$ to the right-hand side. To first order in $f$ the density moves by
#
# $$\delta\rho(t) = \int_0^t e^{\mathcal L(t-t')}\,B\rho\; f(t')\,dt',\qquad
#   B\rho = -\nabla\!\cdot(w\rho) = -(\nabla\!\cdot w + w\cdot s)\,\rho,\qquad s = \nabla\log\rho .$$
#
# Multiply by any observable $A$ and integrate. $e^{\mathcal L t}$ carries the density forward by $t$, so that what
# stands there is a correlation in the unperturbed system (PRL eq. 3-4):
#
# $$\delta\langle A\rangle(t) = \int_0^t R_A(t-t')\,f(t')\,dt',\qquad R_A(t) = \langle A(x(t))\,B(x(0))\rangle .$$
#
# A kick of component $j$ has $w = e_j$, hence $R_{ij}(t) = -\langle x_i(t)\,s_j(x(0))\rangle$. Integration by parts
# gives $R_{ij}(0) = -\int x_i\,\partial_j\rho\,dx = \delta_{ij}$: known without any data, and put to use below.
#
# The trajectory is there. The score $s$ is not, and everything depends on it.

# %% [markdown]
# ## Data and three scores
# 64 independent records, a sample every 0.1. Sixteen of them are kept away from the training, to judge with.
#
# - **exact**: known here, $s = 2(x - x^3)/s_0^2$ with $s_0$ the amplitude of the noise.
# - **Gaussian**: $-C^{-1}(x - m)$. Its response is $R(t) = C(t)\,C(0)^{-1}$, the classical estimate.
# - **learned**: denoising score matching with a network that starts at the Gaussian answer, so that training adds only
#   what is not Gaussian.

# %%
run = system.simulate(n_members=64, duration=DURATION, save_every=0.1, seed=1)
training, judging = run.isel(member=slice(0, 48)), run.isel(member=slice(48, None))
scores = {
    "analytical": gfdt.AnalyticScore(system.score),
    "gaussian": gfdt.GaussianScore().fit(training),
    "generative": gfdt.DSMScore(max_steps=STEPS, progress=False).fit(training),
}
run

# %%
x = np.linspace(-1.8, 1.8, 200)[:, None]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.hist(run["x"].values.ravel(), bins=80, density=True, color="0.8", label="record")
left.plot(x, system.density(x), "k", linewidth=1, label="exact")
left.set(xlabel="x", ylabel="probability density")
styles = {"analytical": (0, (1, 1.2)), "gaussian": (0, (5, 2)), "generative": (0, (6, 2, 1.5, 2))}
colours = {"analytical": "#009E73", "gaussian": "#D55E00", "generative": "#0072B2"}
for name, score in scores.items():
    right.plot(x, score(x), color=colours[name], linestyle=styles[name], label=name)
right.set(xlabel="x", ylabel="score s(x)")
for ax in (left, right):
    ax.legend(frameon=False, fontsize="small")

# %% [markdown]
# ## Is a score any good?
# Integration by parts again: every exact score satisfies $\langle s\rangle = 0$, $-\langle x\,s\rangle = 1$ and
# $-\langle x^3 s\rangle = 3\langle x^2\rangle$. A Gaussian fit satisfies the first two whatever the data are; the third
# tells. `check_score` measures these, and more, within standard errors.

# %%
checks = {name: gfdt.check_score(judging, scores[name], progress=False) for name in ("gaussian", "generative")}
print(checks["gaussian"])
print("learned:", checks["generative"].verdict)

# %% [markdown]
# ## The identity R(0) = I
# The raw correlation misses it: by sampling noise, and for a learned score also because it belongs to the data blurred
# by a little noise. `correction="auto"`, the default, uses what is known at $t = 0$ to take both out, at all lags.

# %%
for name, score in scores.items():
    raw = gfdt.response(run, score, max_lag=0.5, correction="none").isel(lag=0).squeeze()
    used = gfdt.response(run, score, max_lag=0.5).isel(lag=0).squeeze()
    print(f"{name:10s} R(0) raw {float(raw.response):.4f} +- {float(raw.stderr):.4f}, used {float(used.response):.4f}")

# %% [markdown]
# A correction repairs what is a few per cent off. It does not make a Gaussian score right: that one has $R(0) = 1$
# on its own and is wrong everywhere else.
#
# ## Three responses

# %%
responses = {name: gfdt.response(run, score, max_lag=MAX_LAG) for name, score in scores.items()}
comparison = gfdt.compare(exact, responses)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
gfdt.plot_responses({"exact": exact, **responses}, ax=left)
gfdt.plot_errors(comparison, ax=right)
comparison[["rms_overall", "max_overall", "relative", "coverage"]].to_dataframe()

# %% [markdown]
# The Gaussian response decays far too slowly at first. A kick inside a well is forgotten quickly, and only the rare
# passages between the wells are slow; one covariance cannot hold both. The learned score knows the wells.
#
# ## Error bars
# They come from the spread of independent members, or of blocks of time where members are few. What should they do?
# Of many records, 95 % should have the exact answer inside their band. Here each group of four members is taken for a
# record of its own, with the exact score, so that sampling is the only error.

# %%
groups = [run.isel(member=slice(k, k + 4)) for k in range(0, 64, 4)]
small = [gfdt.response(group, scores["analytical"], max_lag=MAX_LAG) for group in groups]
inside = np.array([float(gfdt.compare(exact, {"": item})["coverage"].squeeze()) for item in small])
print(f"95 % bands hold the exact response in {inside.mean():.1%} +- {inside.std(ddof=1) / 4:.1%} of lags and groups")
ax = gfdt.plot_responses({"exact": exact, "one group of four": small[0]})
for item in small[1:]:
    ax.plot(item["lag"], item["response"].squeeze(), color="0.2", linewidth=0.4)
ax.set_title("thin: the other groups", fontsize="medium")

# %% [markdown]
# The band is about sampling alone. It knows nothing of what a score gets wrong; that is what a certificate is for.
#
# ## What a certificate says
# A score that is right is also a model of the density. `certify` draws samples from it and compares them with records
# it has not seen, bounds their likelihood, and adds the identities above. One verdict, with reasons; it goes with the
# score into its file and into every response made with it.

# %%
certificates = {name: gfdt.certify(scores[name], judging, progress=False) for name in ("gaussian", "generative")}
print("Gaussian:", certificates["gaussian"].verdict, *certificates["gaussian"].diagnosis, sep="\n  ")
print(certificates["generative"])
R = gfdt.response(run, scores["generative"], max_lag=MAX_LAG)
R.attrs["certificate_verdict"]

# %% [markdown]
# ## To take away
# - The response to a small push is a correlation of the unperturbed record with its score.
# - Gaussian data: the classical $C(t)\,C(0)^{-1}$ is exact. Other data: it can be far off, with narrow error bars.
# - Errors are of two kinds. Bands hold that of sampling; checks and certificate look for that of the score.
#
# Limits: the record must be stationary and long against its slowest mode, and the response is the first order in the
# push (`06_moments_and_prediction.py` asks how small is small). Next: a field in which everything is exact
# (`02_ou_field.py`), or your own data (`05_your_own_data.py`).
