"""Runs the real img2dataset once for each line of JSON arguments on stdin; in the venv that IMG2DATASET names."""

import json
import os
import sys

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ["WANDB_MODE"] = "disabled"

if __name__ == "__main__":
    from img2dataset import download

    for line in sys.stdin:
        download(**json.loads(line), processes_count=1, thread_count=8, timeout=5)
