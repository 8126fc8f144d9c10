"""Features: rows of an embedding for each frame, window or text chunk."""

import os

# Of MKL, set before torch loads it: a row has the same bits whatever the batch and the threads. On some processors its
# usual products round by the number of rows, and a recomputed item would differ from itself. No cost was measured.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
