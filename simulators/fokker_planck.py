"""Response of a one-dimensional gradient system from its Fokker-Planck operator on finite volumes.

With rho at nodes i and faces i + 1/2, h the spacing, D the diffusivity, the generator L g = (D rho g')' / rho is

    (L g)_i = D / (h^2 rho_i) [rho_(i+1/2) (g_(i+1) - g_i) - rho_(i-1/2) (g_i - g_(i-1))],

in detailed balance with rho: rho^(1/2) L rho^(-1/2) is symmetric and tridiagonal, its eigenvalues are -l_n and its
vectors v_n. A perturbation f(t) of the stationary law has a flux w rho through the faces and the conjugate variable

    B = -(w rho)' / rho = -(w' + w s),     rho_i B_i = -(w_(i+1/2) rho_(i+1/2) - w_(i-1/2) rho_(i-1/2)) / h,

(s the score) with no flux at the ends, so that <B> = 0 and the sum by parts R_A(0) = <A B> = <w A'> hold on the grid.
The drift w f(t) gives w itself. A change f(t) of the noise amplitude s_0 of s_0 dW adds s_0 f(t) rho'' to the
Fokker-Planck equation: it is the flux of w = -s_0 s, hence B = s_0 (s' + s^2). The response of any observable A is then

    R_A(t) = <A(x(t)) B(x(0))> = sum_n exp(-l_n t) (v_n . rho^(1/2) A) (v_n . rho^(1/2) B),

a sum over all n: nothing is truncated, the error is that of the grid, O(h^2). See Risken, The Fokker-Planck Equation,
2nd ed., chapters 5 to 7.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FokkerPlanck", "make_fokker_planck"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FokkerPlanck:
    """The generator of a stationary law, diagonalised.

    Attributes
    ----------
    nodes, faces : ndarray
        Grid points, shape (n,), and the points half-way between them, shape (n - 1,).
    weights, face_weights : ndarray
        rho h at the nodes, normalised to the sum 1, and rho h at the faces with the same factor.
    rates : ndarray
        l_n >= 0, shape (n,), 1/time.
    vectors : ndarray
        v_n in the columns, shape (n, n).
    """

    nodes: Array
    faces: Array
    weights: Array
    face_weights: Array
    rates: Array
    vectors: Array

    def response(self, lags: Array, observable: Array, perturbation: Array) -> Array:
        """Return R_A at `lags`.

        Parameters
        ----------
        lags : ndarray
            Times t >= 0, shape (lag,).
        observable : ndarray
            A at the nodes, shape (n,) or (n, output).
        perturbation : ndarray
            w at the faces, shape (n - 1,).

        Returns
        -------
        ndarray
            Shape (lag,) or (lag, output).
        """
        root = np.sqrt(self.weights)
        flux = np.concatenate([[0.0], perturbation * self.face_weights, [0.0]]) / (self.nodes[1] - self.nodes[0])
        conjugate = self.vectors.T @ (-np.diff(flux) / root)
        values = observable.reshape(len(root), -1)
        # without its mean the observable has no part in v_0, which alone does not decay
        centred = values - self.weights @ values
        amplitudes = (self.vectors.T @ (root[:, None] * centred)) * conjugate[:, None]
        return (np.exp(-np.outer(lags, self.rates)) @ amplitudes).reshape(len(lags), *observable.shape[1:])


def make_fokker_planck(nodes: Array, log_rho: Array, log_rho_faces: Array, diffusivity: float) -> FokkerPlanck:
    """Diagonalise the generator of the stationary density with these logarithms.

    Parameters
    ----------
    nodes : ndarray
        Equally spaced grid points, shape (n,); the density must vanish at both ends.
    log_rho, log_rho_faces : ndarray
        log rho + constant at the nodes and half-way between them.
    diffusivity : float
        D.

    Returns
    -------
    FokkerPlanck
    """
    from scipy.linalg import eigh_tridiagonal

    h = nodes[1] - nodes[0]
    # ratios from differences of logarithms: rho itself underflows in products far from the wells
    diagonal = np.zeros(len(nodes))
    diagonal[:-1] -= np.exp(log_rho_faces - log_rho[:-1])
    diagonal[1:] -= np.exp(log_rho_faces - log_rho[1:])
    off_diagonal = np.exp(log_rho_faces - (log_rho[:-1] + log_rho[1:]) / 2)
    scale = diffusivity / h**2
    eigenvalues, vectors = eigh_tridiagonal(diagonal * scale, off_diagonal * scale)
    weights = np.exp(log_rho)
    total = weights.sum()
    return FokkerPlanck(
        nodes=nodes,
        faces=(nodes[:-1] + nodes[1:]) / 2,
        weights=weights / total,
        face_weights=np.exp(log_rho_faces) / total,
        rates=np.clip(-eigenvalues, 0, None),
        vectors=vectors,
    )
