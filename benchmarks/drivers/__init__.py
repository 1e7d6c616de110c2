"""One driver per system: a process that keeps its system up and answers requests for measures."""
