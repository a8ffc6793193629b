"""Two-dimensional Fourier transforms of real fields for sizes that are powers of two, with SIMD across rows.

A transform along one axis handles many lines at once. Here the transformed axis is the slow index ("rows") and
the lines are the fast, contiguous one ("lanes"), so that each butterfly is the same few operations on two runs of
contiguous numbers, which the compiler turns into vector instructions. Three choices leave little else to do:

* Sizes are types. Lengths are passed as tuples of log2(length) zeros (`size_type`): every function is compiled for
  its sizes, which is what lets the compiler prove that rows do not overlap. The values in the tuples mean nothing.
* No bit reversal. `forward_rows` is decimation in frequency (natural order in, permuted order out) and `inverse_rows`
  decimation in time (permuted in, natural out). Whatever multiplies a spectrum is a table in the same permuted
  order (`row_wavenumbers`).
* No complex type. Real and imaginary parts are two halves of one flat float64 array.

Layouts, n = 2^p points along each axis, h = n/2, all arrays flat and of n^2 numbers, ``re`` the first half and
``im`` the second:

* field:    re[x h + y] = u(y, x), im[x h + y] = u(y + h, x) for y < h: two rows of the real field make one
  complex row, which is why a real field costs half a complex one. Pointwise work need not know the order.
* columns:  [y h + kx], the transform along x of each row y, for kx < h; column kx = 0 holds C = U(kx=0) + i U(kx=h).
* spectrum: [iy h + kx], also transformed along y; row iy has the wavenumber ``row_wavenumbers(n)[iy]``. Column 0
  still holds C_k = U(k, 0) + i U(k, h), so there are exactly n^2 numbers, and white noise on the grid is
  independent normals here: standard deviation n / sqrt(2), in column 0 n, for each real and each imaginary part.

Unnormalised like ``numpy.fft``: `forward` then `inverse` multiplies by n^2. Radix 4, with one radix-2 stage for odd p;
see Van Loan, Computational Frameworks for the Fast Fourier Transform (1992). The slow twin is
``tests/reference/simulators_lanes.py``.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from simulators.kernels.transpose import TILE, transpose_tile

__all__ = [
    "SIZES",
    "forward",
    "forward_low_rows",
    "forward_rows",
    "from_field",
    "inverse",
    "inverse_low_rows",
    "inverse_rows",
    "join_columns",
    "mirror_rows",
    "packed_noise",
    "packed_symbol",
    "row_positions",
    "row_wavenumbers",
    "size_type",
    "split_columns",
    "to_field",
    "transform",
    "twiddles",
]

# Shorter rows do not fill a vector.
SIZES = (16, 32, 64, 128, 256, 512, 1024)

Size = tuple[int, ...]


# ---- tables, in plain Python


def size_type(n: int) -> Size:
    """Return the tuple whose length is log2(n): a size that the compiler knows."""
    return (0,) * (n.bit_length() - 1)


def twiddles(n: int) -> NDArray[np.float64]:
    """Return exp(-2 pi i j / n) for j < n as real and imaginary parts in turn, shape (2 n,)."""
    return np.exp(-2j * np.pi * np.arange(n) / n).view(np.float64)


def row_wavenumbers(n: int) -> NDArray[np.int64]:
    """Return the wavenumber of each row after `forward_rows`, in -n/2 ... n/2 - 1, shape (n,)."""
    order = np.zeros(1, dtype=np.int64)
    length = n
    while length > 1:
        radix = 2 if length == n and n.bit_length() % 2 == 0 else 4
        # the first stage splits frequencies by their remainder modulo its radix
        order = (order[:, None] + (n // length) * np.arange(radix)[None, :]).ravel()
        length //= radix
    return (order + n // 2) % n - n // 2


def row_positions(n: int) -> NDArray[np.int64]:
    """Return the row of each wavenumber 0 ... n - 1, shape (n,)."""
    return np.argsort(row_wavenumbers(n) % n)


def mirror_rows(n: int) -> NDArray[np.int64]:
    """Return the row of -k for the row of each k, shape (n,)."""
    return row_positions(n)[-row_wavenumbers(n) % n]


def packed_symbol(symbol: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a table S_k of half-plane layout in the layout of a spectrum.

    Column 0 packs the columns kx = 0 and n/2, where S must be real and even in ky. The product of S with the spectrum
    C of column 0 is p C_k + q conj(C_-k), p and q half the sum and half the difference of the two columns of S.

    Parameters
    ----------
    symbol : ndarray
        S, shape (n, n/2 + 1), real or complex.

    Returns
    -------
    packed : ndarray
        Flat, n^2 numbers: real parts, then imaginary parts, p in column 0.
    mirrored : ndarray
        q for each row, shape (n,).
    """
    n = len(symbol)
    rows = symbol[row_wavenumbers(n) % n].astype(np.complex128)
    columns = rows[:, :-1].copy()
    columns[:, 0] = (rows[:, 0] + rows[:, -1]) / 2
    packed = np.concatenate([columns.real.ravel(), columns.imag.ravel()])
    return packed, (rows[:, 0] - rows[:, -1]).real / 2


def packed_noise(amplitude: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what independent normals are multiplied by for noise of `amplitude` times white noise on the grid.

    Parameters
    ----------
    amplitude : ndarray
        Half-plane table, real and even in ky, shape (n, n/2 + 1).

    Returns
    -------
    packed : ndarray
        Flat, n^2 / 2 numbers, for the real and for the imaginary parts.
    mirrored : ndarray
        As in `packed_symbol`, shape (n,).
    """
    n = len(amplitude)
    packed, mirrored = packed_symbol(amplitude)
    # white noise has variance n^2 / 2 in each part; in column 0, which packs two columns, n^2
    white = np.tile(np.r_[n, np.full(n // 2 - 1, n * 0.5**0.5)], n)
    return packed[: n * n // 2] * white, mirrored * n


# ---- transforms along the rows


@njit(cache=True, nogil=True, error_model="numpy")
def _forward4(z, rows, lanes, span, twiddle):  # type: ignore[no-untyped-def]
    """Radix-4 stage of decimation in frequency: butterflies of rows `span` apart, then twiddles."""
    length, width, apart = 1 << len(rows), 1 << len(lanes), 1 << len(span)
    im = length * width
    stride = length // (4 * apart)
    for block in range(stride):
        for j in range(apart):
            a = (block * 4 * apart + j) * width
            b = a + apart * width
            c = b + apart * width
            d = c + apart * width
            w1r, w1i = twiddle[2 * j * stride], twiddle[2 * j * stride + 1]
            w2r, w2i = w1r * w1r - w1i * w1i, 2 * w1r * w1i
            w3r, w3i = w1r * w2r - w1i * w2i, w1r * w2i + w1i * w2r
            for lane in range(width):
                ar, ai = z[a + lane], z[im + a + lane]
                br, bi = z[b + lane], z[im + b + lane]
                cr, ci = z[c + lane], z[im + c + lane]
                dr, di = z[d + lane], z[im + d + lane]
                sr, si, tr, ti = ar + cr, ai + ci, ar - cr, ai - ci
                ur, ui, vr, vi = br + dr, bi + di, bi - di, dr - br
                z[a + lane], z[im + a + lane] = sr + ur, si + ui
                xr, xi = tr + vr, ti + vi
                z[b + lane], z[im + b + lane] = xr * w1r - xi * w1i, xr * w1i + xi * w1r
                xr, xi = sr - ur, si - ui
                z[c + lane], z[im + c + lane] = xr * w2r - xi * w2i, xr * w2i + xi * w2r
                xr, xi = tr - vr, ti - vi
                z[d + lane], z[im + d + lane] = xr * w3r - xi * w3i, xr * w3i + xi * w3r


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse4(z, rows, lanes, span, twiddle):  # type: ignore[no-untyped-def]
    """Undo `_forward4` up to a factor 4: conjugate twiddles, then conjugate butterflies."""
    length, width, apart = 1 << len(rows), 1 << len(lanes), 1 << len(span)
    im = length * width
    stride = length // (4 * apart)
    for block in range(stride):
        for j in range(apart):
            a = (block * 4 * apart + j) * width
            b = a + apart * width
            c = b + apart * width
            d = c + apart * width
            w1r, w1i = twiddle[2 * j * stride], -twiddle[2 * j * stride + 1]
            w2r, w2i = w1r * w1r - w1i * w1i, 2 * w1r * w1i
            w3r, w3i = w1r * w2r - w1i * w2i, w1r * w2i + w1i * w2r
            for lane in range(width):
                ar, ai = z[a + lane], z[im + a + lane]
                xr, xi = z[b + lane], z[im + b + lane]
                br, bi = xr * w1r - xi * w1i, xr * w1i + xi * w1r
                xr, xi = z[c + lane], z[im + c + lane]
                cr, ci = xr * w2r - xi * w2i, xr * w2i + xi * w2r
                xr, xi = z[d + lane], z[im + d + lane]
                dr, di = xr * w3r - xi * w3i, xr * w3i + xi * w3r
                sr, si, tr, ti = ar + cr, ai + ci, ar - cr, ai - ci
                ur, ui, vr, vi = br + dr, bi + di, di - bi, br - dr
                z[a + lane], z[im + a + lane] = sr + ur, si + ui
                z[b + lane], z[im + b + lane] = tr + vr, ti + vi
                z[c + lane], z[im + c + lane] = sr - ur, si - ui
                z[d + lane], z[im + d + lane] = tr - vr, ti - vi


@njit(cache=True, nogil=True, error_model="numpy")
def _forward2(z, rows, lanes, twiddle):  # type: ignore[no-untyped-def]
    """Radix-2 stage for an odd log2(length); it comes first, where its loops are long."""
    length, width = 1 << len(rows), 1 << len(lanes)
    im = length * width
    for j in range(length // 2):
        a = j * width
        b = a + (length // 2) * width
        wr, wi = twiddle[2 * j], twiddle[2 * j + 1]
        for lane in range(width):
            ar, ai = z[a + lane], z[im + a + lane]
            br, bi = z[b + lane], z[im + b + lane]
            z[a + lane], z[im + a + lane] = ar + br, ai + bi
            xr, xi = ar - br, ai - bi
            z[b + lane], z[im + b + lane] = xr * wr - xi * wi, xr * wi + xi * wr


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse2(z, rows, lanes, twiddle):  # type: ignore[no-untyped-def]
    """Undo `_forward2` up to a factor 2."""
    length, width = 1 << len(rows), 1 << len(lanes)
    im = length * width
    for j in range(length // 2):
        a = j * width
        b = a + (length // 2) * width
        wr, wi = twiddle[2 * j], -twiddle[2 * j + 1]
        for lane in range(width):
            ar, ai = z[a + lane], z[im + a + lane]
            xr, xi = z[b + lane], z[im + b + lane]
            br, bi = xr * wr - xi * wi, xr * wi + xi * wr
            z[a + lane], z[im + a + lane] = ar + br, ai + bi
            z[b + lane], z[im + b + lane] = ar - br, ai - bi


@njit(cache=True, nogil=True, error_model="numpy")
def _forward_low(z, rows, lanes):  # type: ignore[no-untyped-def]
    """Last stage of decimation in frequency for wavenumbers -length/4 <= k < length/4: the outer two of each four."""
    length, width = 1 << len(rows), 1 << len(lanes)
    im = length * width
    for block in range(length // 4):
        a = 4 * block * width
        b = a + width
        c = b + width
        d = c + width
        for lane in range(width):
            ar, ai = z[a + lane], z[im + a + lane]
            br, bi = z[b + lane], z[im + b + lane]
            cr, ci = z[c + lane], z[im + c + lane]
            dr, di = z[d + lane], z[im + d + lane]
            z[a + lane], z[im + a + lane] = (ar + cr) + (br + dr), (ai + ci) + (bi + di)
            z[d + lane], z[im + d + lane] = (ar - cr) - (bi - di), (ai - ci) - (dr - br)


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse_low(z, rows, lanes):  # type: ignore[no-untyped-def]
    """Undo `_forward_low`, the inner two of each four being zero whatever they hold."""
    length, width = 1 << len(rows), 1 << len(lanes)
    im = length * width
    for block in range(length // 4):
        a = 4 * block * width
        b = a + width
        c = b + width
        d = c + width
        for lane in range(width):
            ar, ai = z[a + lane], z[im + a + lane]
            dr, di = z[d + lane], z[im + d + lane]
            z[a + lane], z[im + a + lane] = ar + dr, ai + di
            z[b + lane], z[im + b + lane] = ar + di, ai - dr
            z[c + lane], z[im + c + lane] = ar - dr, ai - di
            z[d + lane], z[im + d + lane] = ar - di, ai + dr


@njit(cache=True, nogil=True, error_model="numpy")
def _forward_stages(z, rows, lanes, twiddle):  # type: ignore[no-untyped-def]
    """Take all stages but the last, which is of radix 4 and span 1."""
    # a slice of a tuple has a type of its own, so every stage is compiled for its span
    if len(rows) % 2 == 0:
        if len(rows) >= 4:
            _forward4(z, rows, lanes, rows[2:], twiddle)
        if len(rows) >= 6:
            _forward4(z, rows, lanes, rows[4:], twiddle)
        if len(rows) >= 8:
            _forward4(z, rows, lanes, rows[6:], twiddle)
        if len(rows) >= 10:
            _forward4(z, rows, lanes, rows[8:], twiddle)
    else:
        _forward2(z, rows, lanes, twiddle)
        if len(rows) >= 5:
            _forward4(z, rows, lanes, rows[3:], twiddle)
        if len(rows) >= 7:
            _forward4(z, rows, lanes, rows[5:], twiddle)
        if len(rows) >= 9:
            _forward4(z, rows, lanes, rows[7:], twiddle)
        if len(rows) >= 11:
            _forward4(z, rows, lanes, rows[9:], twiddle)


@njit(cache=True, nogil=True, error_model="numpy")
def _inverse_stages(z, rows, lanes, twiddle):  # type: ignore[no-untyped-def]
    """Undo `_forward_stages` up to a factor length/4."""
    if len(rows) % 2 == 0:
        if len(rows) >= 10:
            _inverse4(z, rows, lanes, rows[8:], twiddle)
        if len(rows) >= 8:
            _inverse4(z, rows, lanes, rows[6:], twiddle)
        if len(rows) >= 6:
            _inverse4(z, rows, lanes, rows[4:], twiddle)
        if len(rows) >= 4:
            _inverse4(z, rows, lanes, rows[2:], twiddle)
    else:
        if len(rows) >= 11:
            _inverse4(z, rows, lanes, rows[9:], twiddle)
        if len(rows) >= 9:
            _inverse4(z, rows, lanes, rows[7:], twiddle)
        if len(rows) >= 7:
            _inverse4(z, rows, lanes, rows[5:], twiddle)
        if len(rows) >= 5:
            _inverse4(z, rows, lanes, rows[3:], twiddle)
        _inverse2(z, rows, lanes, twiddle)


@njit(cache=True, nogil=True, error_model="numpy")
def forward_rows(z, rows, lanes, twiddle):  # type: ignore[no-untyped-def]
    """Transform `z` along its rows in place: sum_j z_j exp(-2 pi i j k / length), k in the order `row_wavenumbers`.

    Parameters
    ----------
    z : ndarray
        Flat, 2 length width numbers: real parts [row width + lane], then imaginary parts.
    rows, lanes : tuple
        `size_type` of the length, 2^3 to 2^11, and of the width.
    twiddle : ndarray
        ``twiddles(length)``.
    """
    _forward_stages(z, rows, lanes, twiddle)
    _forward4(z, rows, lanes, (), twiddle)


@njit(cache=True, nogil=True, error_model="numpy")
def inverse_rows(z, rows, lanes, twiddle):  # type: ignore[no-untyped-def]
    """Undo `forward_rows` in place, times the length: sum_k z_k exp(2 pi i j k / length), j in natural order."""
    _inverse4(z, rows, lanes, (), twiddle)
    _inverse_stages(z, rows, lanes, twiddle)


@njit(cache=True, nogil=True, error_model="numpy")
def forward_low_rows(z, rows, lanes, twiddle):  # type: ignore[no-untyped-def]
    """`forward_rows` for the wavenumbers -length/4 <= k < length/4 only; the other rows are left undefined."""
    _forward_stages(z, rows, lanes, twiddle)
    _forward_low(z, rows, lanes)


@njit(cache=True, nogil=True, error_model="numpy")
def inverse_low_rows(z, rows, lanes, twiddle):  # type: ignore[no-untyped-def]
    """`inverse_rows` of a spectrum that is zero, whatever it holds, outside -length/4 <= k < length/4."""
    _inverse_low(z, rows, lanes)
    _inverse_stages(z, rows, lanes, twiddle)


# ---- between the two axes: transpose, and take the two real rows of each complex row apart
#
# With z = A + i B, A and B the transforms of the real rows y and y + m/2: A_k = (z_k + z_-k*) / 2 and
# B_k = (z_k - z_-k*) / 2i. Rows z_k go to the columns of y, z_-k to those of y + m/2, and are combined there, where the
# distances between the four numbers are the same for all k. For k = 0 the row of -k holds z_(m/2) instead.


@njit(cache=True, nogil=True, error_model="numpy")
def split_columns(z, columns, rows, kept, position):  # type: ignore[no-untyped-def]
    """Write the transforms of the real rows of a field as `columns`.

    Parameters
    ----------
    z : ndarray
        Field after `forward_rows` along x: rows kx, lanes y < m/2, m = length of `rows`.
    columns : ndarray
        Result, flat, 2 m h numbers: rows y, lanes kx < h. With h = m/2 column 0 holds C = U(kx=0) + i U(kx=h); with
        h = m/4 the wavenumbers from h on are dropped, column 0 is U(kx=0), and `forward_low_rows` is enough.
    rows, kept : tuple
        `size_type` of m and of h.
    position : ndarray
        ``row_positions(m)``.
    """
    m, h = 1 << len(rows), 1 << len(kept)
    half = m >> 1
    im, apart = m * h, half * h
    for k in range(0, h, TILE):
        positive, negative = _tile_of_waves(k, m, half, position)
        for y in range(0, half, TILE):
            for part in range(2):
                source, target = part * m * half + y, part * im + y * h + k
                transpose_tile(z, _shifted(positive, source), columns, _strided(target, h))
                transpose_tile(z, _shifted(negative, source), columns, _strided(target + apart, h))
    for y in range(half):
        # z_0 = A_0 + i B_0 and z_(m/2) alike, all real: what the loop below turns into C of both rows
        i = y * h
        pr, pi, qr, qi = columns[i], columns[im + i], columns[apart + i], columns[im + apart + i]
        if h < half:
            qr, qi = 0.0, 0.0
        columns[i], columns[im + i] = pr - qi, pi + qr
        columns[apart + i], columns[im + apart + i] = pr + qi, pi - qr
    for i in range(apart):
        pr, pi, qr, qi = columns[i], columns[im + i], columns[apart + i], columns[im + apart + i]
        columns[i], columns[im + i] = 0.5 * (pr + qr), 0.5 * (pi - qi)
        columns[apart + i], columns[im + apart + i] = 0.5 * (pi + qi), 0.5 * (qr - pr)


@njit(cache=True, nogil=True, error_model="numpy")
def join_columns(columns, z, rows, kept, position):  # type: ignore[no-untyped-def]
    """Undo `split_columns` (`columns` is destroyed).

    With h < m/2, which must be m/4, the row of -h is zero and those beyond are undefined, for `inverse_low_rows`.
    """
    m, h = 1 << len(rows), 1 << len(kept)
    half = m >> 1
    im, apart = m * h, half * h
    for i in range(apart):
        ar, ai, br, bi = columns[i], columns[im + i], columns[apart + i], columns[im + apart + i]
        columns[i], columns[im + i] = ar - bi, ai + br
        columns[apart + i], columns[im + apart + i] = ar + bi, br - ai
    for y in range(half):
        i = y * h
        pr, pi, qr, qi = columns[i], columns[im + i], columns[apart + i], columns[im + apart + i]
        columns[i], columns[im + i] = 0.5 * (pr + qr), 0.5 * (pi + qi)
        columns[apart + i], columns[im + apart + i] = 0.5 * (pi - qi), 0.5 * (qr - pr)
    for k in range(0, h, TILE):
        positive, negative = _tile_of_waves(k, m, half, position)
        for y in range(0, half, TILE):
            for part in range(2):
                source, target = part * im + y * h + k, part * m * half + y
                transpose_tile(columns, _strided(source, h), z, _shifted(positive, target))
                transpose_tile(columns, _strided(source + apart, h), z, _shifted(negative, target))
    if h < half:
        p = position[m - h] * half
        for y in range(half):
            z[p + y] = 0.0
            z[m * half + p + y] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _tile_of_waves(k, m, half, position):  # type: ignore[no-untyped-def]
    """Return where the rows of k ... k + 7 begin and those of -k ... -k - 7, m/2 in place of -0."""
    return (
        (
            position[k] * half,
            position[k + 1] * half,
            position[k + 2] * half,
            position[k + 3] * half,
            position[k + 4] * half,
            position[k + 5] * half,
            position[k + 6] * half,
            position[k + 7] * half,
        ),
        (
            position[half if k == 0 else m - k] * half,
            position[m - k - 1] * half,
            position[m - k - 2] * half,
            position[m - k - 3] * half,
            position[m - k - 4] * half,
            position[m - k - 5] * half,
            position[m - k - 6] * half,
            position[m - k - 7] * half,
        ),
    )


@njit(cache=True, nogil=True, error_model="numpy")
def _shifted(t, by):  # type: ignore[no-untyped-def]
    """Return the eight offsets `t` moved `by`."""
    return (t[0] + by, t[1] + by, t[2] + by, t[3] + by, t[4] + by, t[5] + by, t[6] + by, t[7] + by)


@njit(cache=True, nogil=True, error_model="numpy")
def _strided(begin, stride):  # type: ignore[no-untyped-def]
    """Return eight offsets, `stride` apart."""
    return (
        begin,
        begin + stride,
        begin + 2 * stride,
        begin + 3 * stride,
        begin + 4 * stride,
        begin + 5 * stride,
        begin + 6 * stride,
        begin + 7 * stride,
    )


# ---- whole transforms, and the field in its usual order


@njit(cache=True, nogil=True, error_model="numpy")
def forward(field, spectrum, rows, lanes, twiddle, position):  # type: ignore[no-untyped-def]
    """Transform `field` (destroyed) into `spectrum`; `rows`, `lanes` are the `size_type` of n and n/2."""
    forward_rows(field, rows, lanes, twiddle)
    split_columns(field, spectrum, rows, lanes, position)
    forward_rows(spectrum, rows, lanes, twiddle)


@njit(cache=True, nogil=True, error_model="numpy")
def inverse(spectrum, field, rows, lanes, twiddle, position):  # type: ignore[no-untyped-def]
    """Transform `spectrum` (destroyed) into n^2 times `field`."""
    inverse_rows(spectrum, rows, lanes, twiddle)
    join_columns(spectrum, field, rows, lanes, position)
    inverse_rows(field, rows, lanes, twiddle)


@njit(cache=True, nogil=True, error_model="numpy")
def to_field(u, field):  # type: ignore[no-untyped-def]
    """Write `u`, shape (n, n) in the order (y, x), in the layout of a field."""
    n = u.shape[0]
    h = n // 2
    for y in range(h):
        for x in range(n):
            field[x * h + y] = u[y, x]
            field[n * h + x * h + y] = u[y + h, x]


@njit(cache=True, nogil=True, error_model="numpy")
def from_field(field, factor, u):  # type: ignore[no-untyped-def]
    """Write `factor` times `field` into `u`, shape (n, n) in the order (y, x), casting to its dtype."""
    n = u.shape[0]
    h = n // 2
    for y in range(h):
        for x in range(n):
            u[y, x] = factor * field[x * h + y]
            u[y + h, x] = factor * field[n * h + x * h + y]


def transform(
    u: NDArray[np.floating], rows: Size, lanes: Size, twiddle: NDArray[np.float64], position: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the spectrum of `u`, shape (n, n) in the order (y, x): `to_field` and `forward` with their scratch."""
    field, spectrum = np.empty(u.size), np.empty(u.size)
    to_field(np.ascontiguousarray(u, dtype=np.float64), field)
    forward(field, spectrum, rows, lanes, twiddle, position)
    return spectrum
