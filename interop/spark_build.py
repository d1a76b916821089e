"""Builds a run on Spark: run by the Python that has it. Arguments: master, recipe, run folder."""

import json
import os
import sys

from laion400m import spark as laion

master, recipe, run = sys.argv[1:]
# Executors of a local cluster are processes of their own, which ask the store, too.
asked = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "XDG_"))}
settings = {f"spark.executorEnv.{name}": value for name, value in asked.items()}
settings |= {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "4", "spark.executor.memory": "1g"}
spark = laion.session(master, settings)
java = spark.sparkContext._jvm.java.lang.management.ManagementFactory.getRuntimeMXBean().getInputArguments()
print(json.dumps({"application": spark.sparkContext.applicationId, "java": list(java)}), flush=True)
counters = laion.counters(spark)
report = laion.build(spark, recipe, run, counters=counters)
pairs = laion.rows(laion.deduplicate(laion.collect(spark, ["s3://engines/crawl/*.warc.wat.gz"], recipe)))
uids = [row.uid for row in pairs.select("uid").collect()]
print(json.dumps({"report": report, "counters": counters.value, "uids": uids}), flush=True)
spark.stop()
