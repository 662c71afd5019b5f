"""`python -m cleave` is the console command."""

import sys

from cleave.cli import main

if __name__ == "__main__":
    sys.exit(main())
