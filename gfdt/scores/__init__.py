"""Score estimators: everything that maps a state to s(x) = grad log rho(x)."""
