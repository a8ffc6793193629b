r"""The Kramers-Kronig relation: a real response that is zero before t = 0 ties the two parts of its susceptibility.

With chi(omega) = int_0^inf e^{i omega t} R(t) dt (analytic in the upper half-plane, Im chi odd)

    Re chi(w) = (1/pi) P int Im chi(w')/(w' - w) dw'.

The principal value is the midpoint sum over a uniform grid that straddles w, which is exact for a response no longer
than 2 pi over the grid spacing; beyond the grid Im chi goes on as R(0)/w', whose integral is known. A wrong sign in
the exponent, or a part of R at negative lags, breaks the relation at order one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gfdt.errors import InputError
from gfdt.forcing.spline import fourier_sums, spline_pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["kramers_kronig_departure", "kramers_kronig_of_response"]

# Grid spacing pi / (_FINENESS T): the midpoint sum, over every other node, is exact for responses up to
# _FINENESS T long.
_FINENESS = 4
_REACH = 8  # the grid ends at this many Nyquist frequencies
_WORK = 30_000_000  # phases computed at most: with very many lags the grid ends sooner
_PROBES = 48


def kramers_kronig_departure(omega: NDArray[np.float64], real: NDArray[np.float64], imag: NDArray[np.float64]) -> float:
    """Return the rms of Re chi less its Kramers-Kronig integral over Im chi, relative to the rms of Re chi.

    Parameters
    ----------
    omega : (m,) uniform from 0 on, m >= 8, to well beyond the range where chi has structure
    real, imag : (m, ...)
        Judged in the lower eighth of the grid.
    """
    step = float(omega[1] - omega[0]) if omega.size >= 8 else 0.0
    if omega.size < 8 or omega[0] != 0 or not np.allclose(np.diff(omega), step, rtol=1e-6, atol=0.0) or step <= 0:
        raise InputError(
            f"the Kramers-Kronig integral needs at least eight uniform frequencies from 0 on, found {omega.size}: pass "
            "frequencies=np.linspace(0, w_max, n) with w_max well beyond the structure of chi."
        )
    probes = np.unique(np.linspace(0, omega.size // 8, _PROBES).astype(int))
    # R(0): Im chi goes to R(0)/omega, seen in the last tenth (R's end adds a wave of zero mean to it).
    last = slice(-max(omega.size // 10, 2), None)
    coefficient = np.tensordot(omega[last], imag[last], axes=(0, 0)) / omega[last].size
    integral, reference = [], []
    for index in probes:
        # Nodes of the other parity lie midway around w: the sum with twice the step omits the singular point.
        nodes = np.arange(1 - index % 2, omega.size, 2)
        w, nodes_w = omega[index], omega[nodes]
        fold = np.where(nodes_w > 0, 2 * nodes_w / (nodes_w**2 - w**2), 0.0)  # w' and -w' together; Im chi is odd
        total = np.tensordot(fold, imag[nodes], axes=(0, 0)) * 2 * step
        end = nodes_w[-1] + step
        tail = coefficient * (np.log((end + w) / (end - w)) / w if w > 0 else 2 / end)
        integral.append((total + tail) / np.pi)
        reference.append(real[index])
    difference = np.asarray(integral) - np.asarray(reference)
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(difference)) / norm if norm > 0 else float(np.linalg.norm(difference))


def kramers_kronig_of_response(lags: NDArray[np.float64], values: NDArray[np.float64], sign: int = 1) -> float:
    """Return the departure for responses (n_lags, m), on a grid that is fine and wide enough for them.

    ``sign`` is that of the exponent; +1 is the convention here.
    """
    step = np.pi / (_FINENESS * lags[-1])
    count = _REACH * _FINENESS * lags.size
    omega = step * np.arange(max(min(count, _WORK // lags.size), 64))
    chi = fourier_sums(lags, spline_pieces(lags, values), sign * omega)
    return kramers_kronig_departure(omega, chi.real, chi.imag)
