"""One contestant in a process of its own: reads orders as JSON lines, answers with JSON lines.

``worker.py MODULE CONTESTANT SYSTEM DTYPE``. Orders: prepare, turn, check, drop.
"""

import importlib
import json
import os
import sys
import time

# Length of a turn for short runs, and what a slow peer shortens its runs to.
TURN_SECONDS, SLOW_SECONDS = 0.2, 1.0


def main():
    module_name, contestant, system, dtype = sys.argv[1:]
    # peers print; the answers keep the real standard output for themselves
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        if dtype == "float64" and module_name in ("ac_exponax", "ns_exponax", "ns_jax_cfd"):
            import jax

            jax.config.update("jax_enable_x64", True)
        module = importlib.import_module(module_name)
    except ImportError as error:
        answer(missing=str(error))
        return
    except Exception as error:  # noqa: BLE001  a peer that breaks on import is a result, not a crash
        answer(error=_line(error))
        return
    answer(**module.CONTESTANTS[contestant])
    session = Session(module, contestant, system, dtype)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer(**getattr(session, order.pop("order"))(**order))
        except Exception as error:  # noqa: BLE001  the same
            session.drop()
            answer(error=_line(error))


def _line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


class Session:
    def __init__(self, module, contestant, system, dtype):
        self.module, self.contestant, self.system, self.dtype = module, contestant, system, dtype
        self.batch = None

    def prepare(self, n, members, steps):
        """Build and compile every variant, keep the fastest."""
        import problem

        self.drop()
        self.members, started = members, time.perf_counter()
        dt = problem.time_step(self.system, n)
        variants = self.module.make(self.contestant, n, members, self.dtype, dt, steps)
        batches = {name: build() for name, build in variants.items()}
        trials = {}
        for name, batch in batches.items():
            trials[name] = self._trial(batch, steps)
        # a shared core can spoil one trial: those not far behind the best get two more chances
        for _ in range(2):
            best = min(trials.values())[0]
            for name, batch in batches.items():
                seconds, taken = trials[name]
                if len(trials) > 1 and seconds < 1.5 * best:
                    trials[name] = min(seconds, self._seconds(batch, taken) / taken), taken
        variant = min(trials, key=trials.get)
        for name, batch in batches.items():
            if name != variant and hasattr(batch, "close"):
                batch.close()
        self.batch = batches[variant]
        self.steps = steps
        if self.batch.fixed_steps is None:
            self.steps = max(2, min(steps, int(SLOW_SECONDS / trials[variant][0])))
        us = {name: 1e6 * seconds / members for name, (seconds, _) in trials.items()}
        return {"variant": variant, "trials_us": us, "steps": self.steps, "seconds": time.perf_counter() - started}

    def _trial(self, batch, steps):
        """Return seconds per step after a warm-up, which compiles, and the number of steps that were timed."""
        taken = batch.fixed_steps or 1
        batch.run(taken)
        while True:
            seconds = self._seconds(batch, taken)
            if seconds > 0.1 or taken >= steps:
                return seconds / taken, taken
            taken = min(steps, 4 * taken)

    def _seconds(self, batch, steps):
        start = time.perf_counter()
        batch.run(steps)
        return time.perf_counter() - start

    def turn(self):
        """Run until the turn is over; a short run is first repeated untimed, to wake caches and threads."""
        seconds = self._seconds(self.batch, self.steps)
        runs = 1
        if seconds < TURN_SECONDS / 2:
            seconds, runs = 0.0, 0
            while seconds < TURN_SECONDS:
                seconds += self._seconds(self.batch, self.steps)
                runs += 1
        done = getattr(self.batch, "steps_done", lambda steps: steps)(self.steps)
        return {"us": 1e6 * seconds / (runs * done * self.members)}

    def check(self, steps=0):
        """Advance at least `steps` steps and describe the fields."""
        import numpy as np

        import problem

        while steps > 0:
            self.batch.run(self.steps)
            steps -= self.steps
        fields = self.batch.fields()
        if fields is None:
            return {"finite": True, "size": None}
        fields = np.asarray(fields)
        finite = bool(np.isfinite(fields).all())
        size = problem.size_of(self.system, fields) if finite else None
        return {"finite": finite, "size": size, "dtype": str(fields.dtype)}

    def drop(self):
        self._close()
        return {}

    def _close(self):
        if hasattr(self.batch, "close"):
            self.batch.close()
        self.batch = None


if __name__ == "__main__":
    main()
