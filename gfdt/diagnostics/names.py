"""What the entries of a check are called: components, wavenumbers and variables by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gfdt.responses.layout import Homogeneous, Layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Names"]


@dataclass(frozen=True)
class Names:
    """The words for an index, such as "component=b" or "wavenumber k_y=0, k_x=1".

    Attributes
    ----------
    layout : FullMatrix or Homogeneous
    coordinates : of the state dims
    modes : where the modes are, see :func:`gfdt.diagnostics.modes.mode_departure`
    """

    layout: Layout
    coordinates: Mapping[str, NDArray[Any]]
    modes: NDArray[np.int64]

    def component(self, index: int) -> str:
        """One state component."""
        places = np.unravel_index(index, self.layout.shape)
        return ", ".join(
            f"{dim}={self.coordinates[dim][int(place)]}" for dim, place in zip(self.layout.dims, places, strict=True)
        )

    def variable(self, index: int) -> str:
        """One variable of a homogeneous field."""
        dim = self.layout.dims[0]
        return f"{dim}={self.coordinates[dim][index]}"

    def wavenumber(self, index: int) -> str:
        """One wavenumber of the half plane, with its signed integers."""
        waves = ", ".join(
            f"{name}={values[int(place)]}"
            for (name, values), place in zip(
                self.wavenumbers().items(), np.unravel_index(index, self._grid().half), strict=True
            )
        )
        return f"wavenumber {waves}"

    def wavenumbers(self) -> dict[str, NDArray[np.int64]]:
        """Signed integer wavenumbers of the half plane by dim."""
        layout = self._grid()
        whole = [np.rint(np.fft.fftfreq(size) * size).astype(np.int64) for size in layout.grid[:-1]]
        waves = [*whole, np.arange(layout.half[-1])]
        return {f"k_{dim}": wave for dim, wave in zip(layout.grid_dims, waves, strict=True)}

    def stein(self, index: tuple[int, ...]) -> str:
        """One entry of M: empty for a single component."""
        if not self.layout.dense:
            place = self.wavenumber(index[0])
            return place if not self.layout.several else f"{self._pair(*map(self.variable, index[1:]))}, {place}"
        return self._pair(*map(self.component, index)) if self.layout.dims else ""

    def observable(self, index: tuple[int, ...]) -> str:
        """One entry of an observable's departure: empty where there is only one."""
        if not self.layout.dense:
            return self.variable(index[0]) if self.layout.several else ""
        if not self.layout.dims:
            return ""
        return self._pair(*map(self.component, index)) if len(index) > 1 else self.component(index[0])

    def mode(self, index: int) -> str:
        """One mode."""
        where = self.modes[index]
        if self.layout.dense:
            return f"principal component {where[0]}"
        place = self.wavenumber(int(where[0]))
        return f"{place} (mostly {self.variable(int(where[1]))})" if self.layout.several else place

    @staticmethod
    def _pair(row: str, column: str) -> str:
        return row if row == column else f"state {row}, score {column}"

    def _grid(self) -> Homogeneous:
        assert isinstance(self.layout, Homogeneous)
        return self.layout
