"""Builds a run on Ray: run by the Python that has it. Arguments: recipe, run folder, the cards that a shard asks for, if it is to ask."""

import json
import os
import sys

import ray
from ray.data import DataContext

from laion400m import ray as laion

recipe, run, *cards = sys.argv[1:]
DataContext.get_current().enable_progress_bars = False
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
print(json.dumps({"application": os.getpid()}), flush=True)
report = laion.build(recipe, run, **{"num_gpus": int(number) for number in cards})
pairs = laion.rows(laion.deduplicate(laion.collect(["s3://engines/crawl/*.warc.wat.gz"], recipe), 2))
print(json.dumps({"report": report, "uids": [row["uid"] for row in pairs.take_all()]}), flush=True)
