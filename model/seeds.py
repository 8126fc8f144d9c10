"""Where every random number of a training begins: a seed for one purpose of one run, and for nothing else."""

import hashlib


def seed_of(seed: int, run: int, purpose: str) -> int:
    """A 63-bit seed that depends on the experiment's seed, the run and the purpose ("shuffle stage1") alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{run}/{purpose}".encode()).digest()[:8], "big") >> 1
