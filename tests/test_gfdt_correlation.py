"""The correlation kernels against loops that spell the formulas out."""

import itertools

import numpy as np
import pytest
from reference import correlations

from gfdt.responses import segments
from gfdt.responses.correlation import (
    LaggedSums,
    bytes_needed,
    lagged_sums,
    spectral_lagged_sums,
    valid_pairs,
    window_sums,
)
from gfdt.responses.cost import METHODS, best_segmentation, cheapest
from gfdt.responses.units import Unit

TIMES = 61
WHOLE = [Unit(0, 0, TIMES)]
UNEQUAL = [Unit(0, 0, 7), Unit(0, 7, 8), Unit(0, 8, 40), Unit(0, 40, TIMES)]
APART = [Unit(0, 3, 3), Unit(0, 5, 30), Unit(0, 50, 61)]  # an empty one, and samples that start nowhere
LAGS = {
    "dense": np.arange(13),
    "single": np.array([0]),
    "strided": np.arange(0, 40, 6),
    "uneven": np.array([0, 1, 4, 20, 21, 50]),
    "beyond the record": np.array([0, 30, 60, 61, 90]),
}


def _series(shape, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.complexfloating):
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _close(got, expected):
    """Equal to rounding: 1e-12 of the largest sum."""
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * max(np.abs(expected).max(initial=0), 1))


@pytest.mark.parametrize("method", [*METHODS, None])
@pytest.mark.parametrize("units", [WHOLE, UNEQUAL, APART], ids=["whole", "unequal", "apart"])
@pytest.mark.parametrize("lags", LAGS.values(), ids=LAGS)
def test_lagged_sums_equal_the_loop(method, units, lags):
    a, b = _series((TIMES, 3), 1), _series((TIMES, 5), 2)
    _close(lagged_sums(a, b, units, lags, method=method), correlations.lagged_sums(a, b, units, lags))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_lagged_sums_of_few_series(method, shape):
    a, b = _series((TIMES, shape[0]), 1), _series((TIMES, shape[1]), 2)
    lags = np.arange(20)
    _close(lagged_sums(a, b, UNEQUAL, lags, method=method), correlations.lagged_sums(a, b, UNEQUAL, lags))


@pytest.mark.parametrize("samples", [1, 4, 9, 100])
@pytest.mark.parametrize("window", [1, 5, 20, 33])
@pytest.mark.parametrize("name", ["dense", "strided", "uneven"])
def test_any_cut_into_segments_and_windows_gives_the_same_sums(samples, window, name):
    """Segments shorter and longer than units and windows; transforms longer than they must be, odd and even."""
    a, b, lags = _series((TIMES, 2), 1), _series((TIMES, 3), 2), LAGS[name]
    expected = correlations.lagged_sums(a, b, UNEQUAL, lags)
    for spare in (0, 1, 6):
        cut = segments.Segmentation(samples, window, samples + window - 1 + spare)
        out = np.empty_like(expected)
        segments.SegmentSums(b, UNEQUAL, lags, cut).against(a, out)
        _close(out, expected)


def test_columns_and_segments_that_are_taken_in_several_batches(monkeypatch):
    monkeypatch.setattr(segments, "_SCRATCH_BYTES", 4096)
    monkeypatch.setattr(segments, "_BATCH_BYTES", 4096)
    a, b, lags = _series((TIMES, 9), 1), _series((TIMES, 4), 2), np.arange(10)
    _close(lagged_sums(a, b, WHOLE, lags, method="segments"), correlations.lagged_sums(a, b, WHOLE, lags))


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_is_summed_in_double(method, monkeypatch):
    monkeypatch.setattr("gfdt.responses.pairs._CONVERTED_SAMPLES", 10)
    a, b, lags = _series((TIMES, 3), 1, np.float32), _series((TIMES, 2), 2, np.float32), np.arange(15)
    expected = correlations.lagged_sums(a.astype(np.float64), b.astype(np.float64), UNEQUAL, lags)
    _close(lagged_sums(a, b, UNEQUAL, lags, method=method), expected)
    _close(lagged_sums(a.astype(np.float64), b, UNEQUAL, lags, method=method), expected)


@pytest.mark.parametrize("method", METHODS)
def test_one_source_serves_all_tiles_of_the_observable(method):
    a, b, lags = _series((TIMES, 7), 1), _series((TIMES, 4), 2), np.arange(0, 20, 2)
    sums = LaggedSums(b, UNEQUAL, lags, n_observed=7, method=method)
    assert sums.method == method
    tiles = np.concatenate([sums.against(a[:, part]) for part in (slice(3), slice(3, 7))], axis=2)
    _close(tiles, correlations.lagged_sums(a, b, UNEQUAL, lags))
    out = np.full((4, 10, 7, 4), np.nan)
    assert sums.against(a, out) is out
    _close(out, tiles)
    apart = np.full((4, 10, 7, 8), np.nan)[..., ::2]
    _close(sums.against(a, apart), tiles)


@pytest.mark.parametrize("method", METHODS)
def test_series_that_are_not_contiguous(method):
    both, lags = _series((2 * TIMES, 8)), np.arange(9)
    a, b = both[::2, 1:4], both[::-2, 4:]
    _close(lagged_sums(a, b, WHOLE, lags, method=method), correlations.lagged_sums(a, b, WHOLE, lags))


def test_sums_of_units_add_up_to_the_sum_of_the_whole():
    a, b, lags = _series((4000, 40), 1), _series((4000, 30), 2), np.arange(60)
    edges = [0, 900, 901, 2500, 4000]
    units = [Unit(0, *edge) for edge in itertools.pairwise(edges)]
    whole = lagged_sums(a, b, [Unit(0, 0, 4000)], lags, method="segments")[0]
    _close(lagged_sums(a, b, units, lags, method="segments").sum(axis=0), whole)
    _close(lagged_sums(a, b, units, lags, method="products").sum(axis=0), whole)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="method is 'fast'"):
        lagged_sums(_series((9, 1)), _series((9, 1)), WHOLE, np.arange(3), method="fast")


@pytest.mark.parametrize(
    ("length", "n_units", "n_lags", "p", "expected"),
    [
        (20_000, 1, 100, 1024, "segments"),
        (1_000, 20, 100, 256, "segments"),
        (20_000, 1, 1, 256, "products"),
        (100_000, 1, 20, 1, "products"),
        (100_000, 1, 3000, 2, "transforms"),
    ],
)
def test_the_rule_takes_what_was_measured_to_be_fastest(length, n_units, n_lags, p, expected):
    units = [Unit(0, u * length, (u + 1) * length) for u in range(n_units)]
    assert cheapest(units, np.arange(n_lags), p, p)[0] == expected


def test_windows_are_near_the_optimum_of_the_formula():
    """W = sqrt(2 T) and c = n/W = 2 for many lags and series (module docstring of segments)."""
    cut, _ = best_segmentation([Unit(0, 0, 20_000)], np.arange(2000), 1024, 1024)
    assert 100 < cut.window < 400
    assert 1.5 < cut.n_fft / cut.window < 3


def test_lags_of_a_common_step_cost_what_the_sparse_series_would():
    units = [Unit(0, 0, 20_000)]
    dense = best_segmentation(units, np.arange(50), 64, 64)
    sparse = best_segmentation(units, 7 * np.arange(50), 64, 64)
    assert sparse[1] < 1.2 * dense[1]


def test_memory_of_a_large_state_in_tiles():
    """1024 components, 100,000 times, 50 lags: under 8 GiB with the two records, tile by tile of 128."""
    units, lags = [Unit(0, 0, 100_000)], np.arange(50)
    needed = bytes_needed(units, lags, 128, 1024, kept=1024)
    assert needed + 2 * 8 * 100_000 * 1024 < 8 * 2**30
    assert bytes_needed(units, lags, 1024, 1024) > needed


@pytest.mark.parametrize("method", METHODS)
def test_bytes_needed_bounds_what_is_allocated(method):
    import tracemalloc

    a, b, lags, units = _series((20_000, 48), 1), _series((20_000, 48), 2), np.arange(40), [Unit(0, 0, 20_000)]
    lagged_sums(a[:500], b[:500], [Unit(0, 0, 500)], lags, method=method)
    tracemalloc.start()
    try:
        lagged_sums(a, b, units, lags, method=method)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Beside what grows with the sums, batches of 4 MiB, a few at a time.
    assert peak < 1.1 * bytes_needed(units, lags, 48, 48, method=method) + 16 * 2**20


@pytest.mark.parametrize("units", [WHOLE, UNEQUAL, APART], ids=["whole", "unequal", "apart"])
@pytest.mark.parametrize("lags", LAGS.values(), ids=LAGS)
@pytest.mark.parametrize("samples", [None, 5, 100])
def test_spectral_sums_equal_the_loop(units, lags, samples):
    a, b = _series((TIMES, 6), 1, np.complex128), _series((TIMES, 6), 2, np.complex128)
    expected = correlations.spectral_lagged_sums(a[..., None], b[..., None], units, lags)[..., 0, 0]
    _close(spectral_lagged_sums(a, b, units, lags, samples=samples), expected)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128, np.float64])
@pytest.mark.parametrize("n_variables", [(1, 1), (2, 3), (3, 1)])
def test_spectral_sums_of_several_variables(dtype, n_variables, monkeypatch):
    monkeypatch.setattr("gfdt.responses.spectral._BLOCK_BYTES", 4096)  # modes in several blocks
    monkeypatch.setattr(segments, "_BATCH_BYTES", 8192)
    a, b = _series((TIMES, 6, n_variables[0]), 1, dtype), _series((TIMES, 6, n_variables[1]), 2, dtype)
    lags = np.arange(0, 24, 3)
    wide = np.complex128
    expected = correlations.spectral_lagged_sums(a.astype(wide), b.astype(wide), UNEQUAL, lags)
    _close(spectral_lagged_sums(a, b, UNEQUAL, lags), expected)


@pytest.mark.parametrize("units", [WHOLE, UNEQUAL, APART], ids=["whole", "unequal", "apart"])
@pytest.mark.parametrize("lags", LAGS.values(), ids=LAGS)
@pytest.mark.parametrize("gaps", [False, True])
def test_pairs_and_window_sums_equal_the_loop(units, lags, gaps, monkeypatch):
    monkeypatch.setattr("gfdt.responses.windows._MATRIX_BYTES", 2000)  # times in several stretches
    valid = np.random.default_rng(3).random(TIMES) > 0.2 if gaps else np.ones(TIMES, dtype=bool)
    assert valid.all() != gaps
    for dtype in (np.float64, np.float32, np.complex128):
        values = _series((TIMES, 3), 1, dtype) * valid[:, None]
        wide = values.astype(np.result_type(dtype, np.float64))
        for which in ("observed", "source"):
            expected = correlations.window_sums(wide, valid, units, lags, which)
            _close(window_sums(values, valid, units, lags, which), expected)
    np.testing.assert_array_equal(valid_pairs(valid, units, lags), correlations.valid_pairs(valid, units, lags))


def test_window_sums_of_a_large_mean_keep_the_small_differences():
    """Cumulative sums run over unit ends only: a mean of 1e8 in a long record costs no digits beyond its own."""
    values = 1e8 + _series((50_000, 1))
    units, lags, valid = [Unit(0, 40_000, 40_020)], np.arange(0, 30, 7), np.ones(50_000, dtype=bool)
    got = window_sums(values, valid, units, lags)
    expected = [[[float(values[40_000 + lag : 40_020 + lag, 0].sum(dtype=np.longdouble))] for lag in lags]]
    np.testing.assert_allclose(got, expected, rtol=4e-16 * 20)


@pytest.mark.parametrize("gaps", [False, True])
def test_centring_afterwards_equals_centring_before(gaps):
    """S - a <B>^T - <A> b^T + n <A><B>^T is the sum of the centred series, missing samples or not."""
    valid = np.random.default_rng(3).random(TIMES) > (0.3 if gaps else -1)
    a, b, lags = 2 + _series((TIMES, 3), 1), _series((TIMES, 2), 2) - 5, np.arange(12)
    a, b = a * valid[:, None], b * valid[:, None]
    mean_a, mean_b = a[valid].mean(axis=0), b[valid].mean(axis=0)
    sums = lagged_sums(a, b, UNEQUAL, lags)
    sums -= window_sums(a, valid, UNEQUAL, lags)[..., :, None] * mean_b
    sums -= mean_a[:, None] * window_sums(b, valid, UNEQUAL, lags, "source")[..., None, :]
    sums += valid_pairs(valid, UNEQUAL, lags)[..., None, None] * np.outer(mean_a, mean_b)
    centred = [(x - mean) * valid[:, None] for x, mean in ((a, mean_a), (b, mean_b))]
    np.testing.assert_allclose(sums, correlations.lagged_sums(*centred, UNEQUAL, lags), rtol=0, atol=1e-11)
