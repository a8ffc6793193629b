"""Response functions from scores: the generalized fluctuation-dissipation theorem (GFDT)."""
