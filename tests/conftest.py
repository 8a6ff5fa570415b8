"""What all tests share."""

import os

# As the command line does (src/headwater/__main__.py), before anything imports torch.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")
