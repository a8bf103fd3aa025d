"""The topic as Spark reads it: exactly the planned offset ranges, split so that files are neither tiny nor huge."""

import json
import math
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession

from processor.plan import OffsetRange
from runtime.broker.security import KafkaSecurity

# A small batch is one file a dataset; in a large one each task has enough to do to be worth its start.
MESSAGES_PER_TASK = 500_000

COLUMNS = ("partition", "offset", "timestamp", "key", "value")


def read_ranges(
    spark: SparkSession, brokers: str, security: KafkaSecurity, topic: str, ranges: Sequence[OffsetRange]
) -> DataFrame:
    """Return the committed messages of ``ranges`` with COLUMNS; Spark fails when one that exists cannot be read."""
    tasks = math.ceil(sum(r.length for r in ranges) / MESSAGES_PER_TASK)
    frame = (
        spark.read.format("kafka")
        .option("kafka.bootstrap.servers", brokers)
        .option("kafka.isolation.level", "read_committed")
        .options(**security.for_spark())
        .option("assign", json.dumps({topic: [r.partition for r in ranges]}))
        .option("startingOffsets", json.dumps({topic: {str(r.partition): r.start for r in ranges}}))
        .option("endingOffsets", json.dumps({topic: {str(r.partition): r.end for r in ranges}}))
        .option("failOnDataLoss", "true")
        .option("minPartitions", str(max(tasks, len(ranges))))
        .load()
        .select(*COLUMNS)
    )
    return frame.coalesce(tasks) if tasks < len(ranges) else frame
