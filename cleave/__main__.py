"""`python -m cleave` is the console command."""

import sys

from cleave.cli import main

sys.exit(main())
