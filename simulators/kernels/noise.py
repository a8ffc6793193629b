"""Normal numbers for the field kernels: many streams side by side, no branches.

A field takes n^2 normals a step, and drawing them one by one from a NumPy Generator would be most of the step. Here
`STREAMS` independent SFC64 generators (C. Doty-Humphrey, PractRand; the one of ``numpy.random.SFC64``) advance
together in vector registers, and Box and Muller's map makes pairs of normals of pairs of uniforms. It has no
rejection, so every call takes the same number of draws, and only IEEE arithmetic (no fused operations, and series for
log, sin and cos that end where their error is 1e-11, which no sample can see), so the numbers are the same on every
machine.

The generators are part of a member's state: ``words``, shape (4 STREAMS,), the SFC64 words a, b, c and counter of each
stream in turn, seeded from the member's own Generator.

Range: 52-bit uniforms, so |normal| <= sqrt(2 * 52 ln 2) = 8.49; beyond lies a fraction 2e-17 of a normal law.
"""

import math

import numpy as np
from numba import njit, uint64
from numpy.typing import NDArray

__all__ = ["STREAMS", "fill_normals", "seed_words"]

# A power of two; the loops over the streams are long enough to stay loops, and their state fits the first-level cache.
STREAMS = 64
# NumPy's own number of rounds between seeding and first use.
_WARM_UP = 12

_ONE = uint64(0x3FF0000000000000)  # the bits of 1.0: sign 0, exponent 1023, mantissa 0
_MANTISSA = uint64(0x000FFFFFFFFFFFFF)
_LN2 = math.log(2.0)
_SQRT2 = math.sqrt(2.0)
_QUARTER_TURN = math.pi / 2


def seed_words(rng: np.random.Generator) -> NDArray[np.uint64]:
    """Return the words of `STREAMS` independent generators, seeded from 192 bits of `rng` each."""
    words = rng.integers(0, 2**64, size=4 * STREAMS, dtype=np.uint64)
    words[3 * STREAMS :] = 1
    scratch = np.empty(STREAMS)
    for _ in range(_WARM_UP):
        _uniforms(words, scratch, 0)
    return words


@njit(cache=True, nogil=True, error_model="numpy")
def _uniforms(words: NDArray[np.uint64], out: NDArray[np.float64], begin: int) -> None:
    """Write one uniform number in [1, 2) of each stream into ``out[begin : begin + STREAMS]``."""
    bits = out.view(np.uint64)
    for i in range(STREAMS):
        a, b, c = words[i], words[STREAMS + i], words[2 * STREAMS + i]
        counter = words[3 * STREAMS + i]
        result = a + b + counter
        words[i] = b ^ (b >> uint64(11))
        words[STREAMS + i] = c + (c << uint64(3))
        words[2 * STREAMS + i] = ((c << uint64(24)) | (c >> uint64(40))) + result
        words[3 * STREAMS + i] = counter + uint64(1)
        bits[begin + i] = (result >> uint64(12)) | _ONE


@njit(cache=True, nogil=True, error_model="numpy")
def fill_normals(words: NDArray[np.uint64], out: NDArray[np.float64]) -> None:
    """Fill `out` with independent N(0, 1) numbers, advancing the generators in `words`.

    Parameters
    ----------
    words : ndarray
        From `seed_words`.
    out : ndarray
        Flat float64; its size must be a multiple of 2 `STREAMS`.
    """
    bits = out.view(np.uint64)
    exponent = np.empty(STREAMS)
    for block in range(out.size // (2 * STREAMS)):
        begin = block * 2 * STREAMS
        other = begin + STREAMS
        _uniforms(words, out, begin)
        _uniforms(words, out, other)
        for i in range(STREAMS):
            out[begin + i] = 2.0 - out[begin + i]  # in (0, 1]: the logarithm stays finite
        for i in range(STREAMS):
            word = bits[begin + i]
            exponent[i] = np.int64(word >> uint64(52)) - 1023
            bits[begin + i] = (word & _MANTISSA) | _ONE
        for i in range(STREAMS):
            # log u = e ln 2 + log m with m in [sqrt(1/2), sqrt 2], log m = 2 artanh((m - 1) / (m + 1))
            m, e = out[begin + i], exponent[i]
            large = m > _SQRT2
            m = 0.5 * m if large else m
            e = e + 1.0 if large else e
            s = (m - 1.0) / (m + 1.0)
            t = s * s
            series = t * (1 / 13) + 1 / 11
            series = series * t + 1 / 9
            series = series * t + 1 / 7
            series = series * t + 1 / 5
            series = series * t + 1 / 3
            series = series * t + 1.0
            radius_squared = -2.0 * (e * _LN2 + 2.0 * s * series)
            radius = math.sqrt(radius_squared) if radius_squared > 0.0 else 0.0
            # angle of `turns` quarter turns in [0, 4): the nearest whole number and a rest of at most pi/4
            turns = 4.0 * (out[other + i] - 1.0)
            whole = np.floor(turns + 0.5)
            x = (turns - whole) * _QUARTER_TURN
            y = x * x
            sine = 1 / 362880 - y * (1 / 39916800)
            sine = sine * y - 1 / 5040
            sine = sine * y + 1 / 120
            sine = sine * y - 1 / 6
            sine = (sine * y + 1.0) * x
            cosine = y * (1 / 479001600) - 1 / 3628800
            cosine = cosine * y + 1 / 40320
            cosine = cosine * y - 1 / 720
            cosine = cosine * y + 1 / 24
            cosine = cosine * y - 1 / 2
            cosine = cosine * y + 1.0
            odd = whole == 1.0 or whole == 3.0
            first = sine if odd else cosine
            second = cosine if odd else sine
            first = -first if (whole == 1.0 or whole == 2.0) else first
            second = -second if (whole == 2.0 or whole == 3.0) else second
            out[begin + i] = radius * first
            out[other + i] = radius * second
