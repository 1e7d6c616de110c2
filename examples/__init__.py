"""The classic actor programs, on real input: `python -m examples.demo` runs them all."""

import os

# The workers inherit this. Four processes that learn at once on two cores, each with numpy's
# default of a thread per core, took 6 to 11 s for 480 steps each; with one thread, 0.5 s.
os.environ.setdefault("OMP_NUM_THREADS", "1")
