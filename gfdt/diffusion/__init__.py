"""Denoisers: networks, their Gaussian preconditioning, objectives and training (the only part that needs torch)."""
