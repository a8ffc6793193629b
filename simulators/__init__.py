"""Stochastic simulators that write labelled stationary trajectories."""
