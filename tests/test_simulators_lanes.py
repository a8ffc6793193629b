"""The lane transforms and their noise: equal to NumPy's, and white in the layout that the kernels use."""

import numpy as np
import pytest
from reference import simulators_lanes
from scipy import stats

from simulators.kernels import lanes, noise

# the small sizes run in test_simulators_kernels without the compiler too
SIZES = (64, 128, 256)


@pytest.mark.parametrize("n", SIZES)
def test_transform_is_that_of_numpy(n):
    rows, columns = lanes.size_type(n), lanes.size_type(n // 2)
    position = lanes.row_positions(n)
    u = np.random.default_rng(n).standard_normal((n, n))
    field, spectrum = np.empty(n * n), np.empty(n * n)
    lanes.to_field(u, field)
    lanes.forward(field, spectrum, rows, columns, lanes.twiddles(n), position)
    expected = simulators_lanes.spectrum(u)
    # rounding of n^2 unit numbers added in log2(n^2) levels
    np.testing.assert_allclose(spectrum, expected, atol=n * np.log2(n) * 4e-16)
    lanes.inverse(spectrum, field, rows, columns, lanes.twiddles(n), position)
    back = np.empty((n, n))
    lanes.from_field(field, 1 / n**2, back)
    np.testing.assert_allclose(back, u, atol=2e-14)


@pytest.mark.parametrize("length", [8, 512, 1024])
def test_rows_of_every_number_of_stages(length):
    rows, width, twiddle = lanes.size_type(length), lanes.size_type(8), lanes.twiddles(length)
    z = np.random.default_rng(length).standard_normal(2 * length * 8)
    start = z.copy()
    values = (z[: length * 8] + 1j * z[length * 8 :]).reshape(length, 8)
    lanes.forward_rows(z, rows, width, twiddle)
    found = (z[: length * 8] + 1j * z[length * 8 :]).reshape(length, 8)
    np.testing.assert_allclose(found, np.fft.fft(values, axis=0)[lanes.row_wavenumbers(length)], atol=1e-12)
    lanes.inverse_rows(z, rows, width, twiddle)
    np.testing.assert_allclose(z / length, start, atol=1e-13)


@pytest.mark.parametrize("n", lanes.SIZES)
def test_rows_hold_the_wavenumbers_of_the_stages(n):
    np.testing.assert_array_equal(lanes.row_wavenumbers(n), simulators_lanes.wavenumbers(n))
    mirrored = lanes.row_wavenumbers(n)[lanes.mirror_rows(n)]
    np.testing.assert_array_equal(mirrored % n, -lanes.row_wavenumbers(n) % n)


@pytest.mark.parametrize("m", [64, 128])
def test_pruned_columns_are_a_truncated_transform(m):
    # rows of a fine field, wavenumbers kx < h kept: what a dealiased product needs
    h = m // 4
    rows, half, kept = lanes.size_type(m), lanes.size_type(m // 2), lanes.size_type(h)
    position = lanes.row_positions(m)
    u = np.random.default_rng(m).standard_normal((m, m))
    field, columns = np.empty(m * m), np.empty(2 * m * h)
    lanes.to_field(u, field)
    lanes.forward_low_rows(field, rows, half, lanes.twiddles(m))
    lanes.split_columns(field, columns, rows, kept, position)
    expected = np.fft.rfft(u, axis=1)[:, :h]
    found = (columns[: m * h] + 1j * columns[m * h :]).reshape(m, h)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    lanes.join_columns(columns, field, rows, kept, position)
    lanes.inverse_low_rows(field, rows, half, lanes.twiddles(m))
    back = np.empty((m, m))
    lanes.from_field(field, 1 / m, back)
    np.testing.assert_allclose(back, np.fft.irfft(expected, n=m, axis=1), atol=1e-12)


def test_normals_pass_moment_and_distribution_tests():
    words = noise.seed_words(np.random.default_rng(5))
    numbers = np.empty(2**20)
    noise.fill_normals(words, numbers)
    # moments 1 to 6 against their standard errors sqrt((m_2k - m_k^2) / N)
    moments = {1: (0, 1), 2: (1, 2), 3: (0, 15), 4: (3, 96), 6: (15, 10170)}
    for power, (mean, variance) in moments.items():
        assert abs((numbers**power).mean() - mean) < 4.5 * np.sqrt(variance / numbers.size), power
    assert stats.kstest(numbers, "norm").pvalue > 1e-4
    # tails: |x| > 4 has probability 6.33e-5
    tail = (np.abs(numbers) > 4).sum()
    assert abs(tail - 66.4) < 4.5 * np.sqrt(66.4)


def test_streams_and_pairs_are_uncorrelated():
    words = noise.seed_words(np.random.default_rng(6))
    n_rounds = 4096
    numbers = np.empty(n_rounds * 2 * noise.STREAMS)
    noise.fill_normals(words, numbers)
    draws = numbers.reshape(n_rounds, -1)
    correlation = np.corrcoef(draws.T)
    # 8128 pairs: P(|z| > 5.2) = 2e-7 each
    assert np.abs(correlation[np.triu_indices(len(correlation), 1)]).max() * np.sqrt(n_rounds) < 5.2
    # the two normals of a pair share their radius: their squares too must be uncorrelated (64 pairs)
    first, second = np.split(draws**2 - 1, 2, axis=1)
    together = (first * second).mean(axis=0) / 2
    # squares minus one have fourth moment 60, so means of 4096 products are nearly normal: P(|z| > 4.5) = 7e-6 each
    assert np.abs(together).max() * np.sqrt(n_rounds) < 4.5
    for values, variance in ((draws, 1), (draws**2 - 1, 2)):
        lagged = (values[1:] * values[:-1]).mean(axis=0) / variance
        assert np.abs(lagged).max() * np.sqrt(n_rounds) < 4.5


def test_members_have_different_generators():
    first, second = (noise.seed_words(np.random.default_rng(seed)) for seed in (0, 1))
    assert np.unique(np.concatenate([first, second])[: 3 * noise.STREAMS]).size == 3 * noise.STREAMS
    assert not np.any(first[: 3 * noise.STREAMS] == second[: 3 * noise.STREAMS])
