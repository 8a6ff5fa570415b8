"""What all tests share."""

import os
import tempfile

# As the command line does (src/headwater/__main__.py), before anything imports torch.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

# What one run of the tests keeps, the next must not find.
CACHE = tempfile.TemporaryDirectory(prefix="headwater-cache-")
os.environ["HEADWATER_CACHE"] = CACHE.name

# No test asks the web for anything (tests of fetching talk to a server of their own).
os.environ["HEADWATER_OFFLINE"] = "1"
