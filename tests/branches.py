"""Say how many of the branches the tests have taken: ``coverage report`` counts lines with them."""

from __future__ import annotations

import json
import subprocess
import sys

WANTED = 95.0


def main() -> int:
    """Print the share; 1 where it is too small."""
    command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", "-"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    totals = json.loads(found)["totals"]
    taken, there = totals["covered_branches"], totals["num_branches"]
    share = 100 * taken / there
    sys.stdout.write(f"branches: {taken} of {there}, {share:.1f} %; {WANTED:g} % are wanted\n")
    return int(share < WANTED)


if __name__ == "__main__":
    sys.exit(main())
