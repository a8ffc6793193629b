"""Compiled time loops, one file per family of systems.

They live apart from the systems so that reading parameters, scores and ``--help`` never imports numba. Every
``advance`` has the same shape: for one member, write the current state to ``out[t]``, step to the next save
time, repeat; the state and the generator are left ready for the next block. Kernels release the GIL.
"""
