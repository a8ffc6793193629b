"""The packed layouts of `simulators.kernels.lanes` and the normals of `simulators.kernels.noise`, spelled out."""

import numpy as np


def wavenumbers(n):
    """Order of decimation in frequency: each stage sorts frequencies by their remainder modulo its radix."""

    def split(frequencies, radices):
        if not radices:
            return frequencies
        return np.concatenate([split(frequencies[r :: radices[0]], radices[1:]) for r in range(radices[0])])

    levels = n.bit_length() - 1
    radices = [2] * (levels % 2) + [4] * (levels // 2)
    k = split(np.arange(n), radices)
    return np.where(k >= n // 2, k - n, k)


def spectrum(u):
    """Packed spectrum of a real field (n, n), flat."""
    n = len(u)
    rows = np.fft.rfft2(u)[wavenumbers(n)]
    columns = rows[:, :-1].copy()
    columns[:, 0] += 1j * rows[:, -1]
    return np.concatenate([columns.real.ravel(), columns.imag.ravel()])


def field(u):
    """A real field (n, n) in the order of the transforms, flat: x, half of y, row."""
    n = len(u)
    return u.reshape(2, n // 2, n).transpose(0, 2, 1).ravel()


def sfc64(words, count):
    """The next `count` raw words of one SFC64 generator (a, b, c, counter)."""
    return sfc64_and_state(words, count)[0]


def sfc64_and_state(words, count):
    """The same, and the words that follow; by Python integers."""
    a, b, c, counter = (int(word) for word in words)
    mask = 2**64 - 1
    raw = []
    for _ in range(count):
        result = (a + b + counter) & mask
        counter = (counter + 1) & mask
        a, b, c = b ^ (b >> 11), (c + (c << 3)) & mask, (((c << 24) | (c >> 40)) + result) & mask
        raw.append(result)
    return raw, (a, b, c, counter)


def box_muller(first, second):
    """Two normals of two raw words."""
    u, v = 1 - (first >> 12) * 2.0**-52, (second >> 12) * 2.0**-52
    radius = np.sqrt(-2 * np.log(u))
    return radius * np.cos(2 * np.pi * v), radius * np.sin(2 * np.pi * v)


class Normals:
    """The numbers of `simulators.kernels.noise.fill_normals`, asked for like those of a Generator."""

    def __init__(self, words):
        self.streams = [list(start) for start in words.reshape(4, -1).T]

    def standard_normal(self, count):
        """The next `count`, from whole rounds of one pair for each stream."""
        numbers = []
        while len(numbers) < count:
            raw = []
            for i, words in enumerate(self.streams):
                pair, self.streams[i] = sfc64_and_state(words, 2)
                raw.append(pair)
            both = [box_muller(*pair) for pair in raw]
            numbers += [first for first, _ in both] + [second for _, second in both]
        return np.array(numbers[:count])
