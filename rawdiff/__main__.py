"""`python -m rawdiff` is the command `rawdiff`."""

import sys

from rawdiff.cli import main

if __name__ == "__main__":
    sys.exit(main())
