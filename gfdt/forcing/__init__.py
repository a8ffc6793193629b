r"""What follows from a response function: predictions, spectra, forcings, causes.

Notation: a small drift forcing f_j(t) of the perturbed directions j changes the mean of the observables i by

    delta <A_i>(t) = int_0^t sum_j R_ij(t - t') f_j(t') dt'.

R is known at lags t_l, l = 0 .. L - 1, from 0 to T, and is taken between them as the cubic spline through its values:
R(t) = sum_l c_l(t) R(t_l) with the cardinal splines c_l. Everything in this folder but a few squares is linear in R,
so it is a sum of weights times R(t_l), and its error bar is the same sum over the errors
(:mod:`gfdt.forcing.propagation`).
"""
