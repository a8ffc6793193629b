"""Allen-Cahn in eager PyTorch: ETD1 on a batch of members, in-place arithmetic."""

import math

import torch

import problem

CONTESTANTS = {"torch ETD1": {"scheme": "ETD1, eager", "answer": "stochastic"}}


class Batch:
    fixed_steps = None

    def __init__(self, n, dt, dtype, members, threads):
        self.n, self.threads = n, threads
        self.propagator, self.gain, kick = map(torch.from_numpy, problem.etd1_tables(n, dt, dtype))
        self.kick = kick * (n * math.sqrt(0.5))
        self.u_hat = torch.fft.rfft2(torch.from_numpy(problem.allen_cahn_start(n, members, dtype)))
        self.normals = torch.empty((*self.u_hat.shape, 2), dtype=kick.dtype)
        self.mirror = -torch.arange(n) % n
        self.generator = torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def run(self, n_steps):
        torch.set_num_threads(self.threads)
        u_hat, size = self.u_hat, (self.n, self.n)
        w_hat = torch.view_as_complex(self.normals)
        for _ in range(n_steps):
            u = torch.fft.irfft2(u_hat, s=size)
            v_hat = torch.fft.rfft2((u * u).neg_().add_(1).mul_(u))
            self.normals.normal_(generator=self.generator)
            # columns kx = 0 and n/2 hold k and -k: make them Hermitian, variance unchanged
            for column in (0, -1):
                w = w_hat[..., column]
                w.copy_((w + w[:, self.mirror].conj()) * math.sqrt(0.5))
            u_hat.mul_(self.propagator).addcmul_(v_hat, self.gain).addcmul_(w_hat, self.kick)

    def fields(self):
        return torch.fft.irfft2(self.u_hat, s=(self.n, self.n)).numpy()


def make(_contestant, n, members, dtype, dt, _steps):
    return {
        f"one batch, {threads} torch threads": lambda threads=threads: Batch(n, dt, dtype, members, threads)
        for threads in (1, problem.CORES)
    }
