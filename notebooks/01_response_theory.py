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
# A particle in the potential $U = x^4/4 - x^2/2$ with noise, $dx = (x - x^3)\,dt + s\,dW$. We push it a little at time
# zero and ask how its mean comes back. The answer is $R(t) = -\langle x(t)\, s(x(0)) \rangle$ with the score
# $s = \partial_x \log \rho$ of the *unperturbed* stationary density: nothing has to be pushed.

# %%
import matplotlib.pyplot as plt
import numpy as np

import gfdt
import simulators

DURATION = 1000.0
STEPS = 1500

# %% [markdown]
# ## Data
# 64 independent records of the stationary process, a sample every 0.1. With your own data, start from a DataArray, a
# netCDF file or an array with `dims=` and `dt=` instead.

# %%
system = simulators.DoubleWell()
run = system.simulate(n_members=64, duration=DURATION, save_every=0.1, seed=0)
run

# %% [markdown]
# ## Three scores
# The exact one, the one of a Gaussian fit, and one learned from the data by denoising score matching.

# %%
exact_score = gfdt.AnalyticScore(system.score)
gaussian_score = gfdt.GaussianScore().fit(run)
learned_score = gfdt.DSMScore(max_steps=STEPS).fit(run)

x = np.linspace(-1.8, 1.8, 200)[:, None]
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
left.hist(run["x"].values.ravel(), bins=80, density=True, color="0.8")
left.set(xlabel="x", ylabel="probability density")
for name, score in {"exact": exact_score, "gaussian": gaussian_score, "generative": learned_score}.items():
    right.plot(x, score(x), label=name)
right.set(xlabel="x", ylabel="score s(x)")
right.legend(frameon=False)

# %% [markdown]
# ## Is a score any good?
# Every exact score satisfies $\langle s \rangle = 0$, $-\langle x s \rangle = 1$ and
# $-\langle x^3 s \rangle = 3 \langle x^2 \rangle$. A Gaussian fit satisfies the first two on its own data whatever they
# are; the third tells.

# %%
print(gfdt.check_score(run, gaussian_score))
print(gfdt.check_score(run, learned_score))

# %% [markdown]
# ## Responses
# With error bars, against the exact response from the Fokker-Planck equation.

# %%
responses = {
    "analytical": gfdt.response(run, exact_score, max_lag=6.0),
    "gaussian": gfdt.response(run, gaussian_score, max_lag=6.0),
    "generative": gfdt.response(run, learned_score, max_lag=6.0),
}
exact = system.exact_response(responses["gaussian"]["lag"].values)
comparison = gfdt.compare(exact, responses)
gfdt.plot_responses({"exact": exact, **responses})
comparison[["rms_overall", "max_overall", "relative", "coverage"]].to_dataframe()

# %% [markdown]
# The Gaussian approximation $C(t)/C(0)$ relaxes far too slowly at first: a push inside a well is forgotten quickly, and
# only the rare passages between the wells are slow. The learned score knows the wells.
