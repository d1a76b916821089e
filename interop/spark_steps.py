"""Builds a run step by step on Spark, where executors have cards: run by the Python that has it. Arguments: master, recipe, run folder, a
program that tells the cards."""

import json
import os
import sys

from pyspark.resource import ResourceProfileBuilder, TaskResourceRequests
from pyspark.sql import SparkSession

from laion400m import spark as laion

master, recipe, run, cards = sys.argv[1:]
settings = {f"spark.executorEnv.{name}": value for name, value in os.environ.items() if name.startswith(("AWS_", "XDG_"))}
settings |= {"spark.ui.enabled": "false", "spark.executor.memory": "1g", "spark.task.maxFailures": "1"}
for of in ("worker", "executor"):
    settings |= {f"spark.{of}.resource.gpu.amount": "1", f"spark.{of}.resource.gpu.discoveryScript": cards}
spark = SparkSession.builder.master(master).config(map=settings).getOrCreate()
print(json.dumps({"application": spark.sparkContext.applicationId}), flush=True)
# Shards are of each pair once, whether they come from collected pairs, as in spark_build.py, or from unique ones.
pairs = laion.deduplicate(laion.collect(spark, ["s3://engines/crawl/*.warc.wat.gz"], recipe))
shards = laion.shards(pairs, run, recipe)
told = {"download": laion.download(shards, run, recipe)}
try:
    laion.embed(shards, run, recipe, profile=ResourceProfileBuilder().require(TaskResourceRequests().resource("gpu", 1)).build)
    refused = ""
except Exception as error:
    refused = str(error)
for step in ("embed", "filter", "pack"):
    told[step] = getattr(laion, step)(shards, run, recipe)
kept = {step: sum(row.kept for row in rows.collect()) for step, rows in told.items()}
print(json.dumps({"kept": kept, "refused": refused}), flush=True)
spark.stop()
