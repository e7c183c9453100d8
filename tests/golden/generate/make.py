"""Writes all files: `python make.py`, or `python make.py dino ibot` for some modules.

Equal package versions on an equal processor give equal bytes; elsewhere the last digits may differ.
"""

from __future__ import annotations

import importlib
import sys
import warnings

MODULES = (
    "simclr", "moco_v3", "byol", "simsiam", "barlow_twins", "vicreg", "dino", "ibot", "msn", "data2vec", "ijepa",
    "maskfeat", "cae", "sim", "tokenizer", "cim", "beit", "simmim", "mae", "lejepa", "simdino", "finetune",
    "augment_rand",
)  # fmt: skip

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or MODULES:
        importlib.import_module(name).make()
