"""What a Spark user would write: Spark's own Kafka source, its JSON reader and its Parquet writer.

``python -m benchmarks.peers.spark SHAPE BROKER TOPIC FOLDER JAR…`` with one of the shapes ``seed`` (each output is
written separately, so each reads the topic again) and ``one-pass`` (the parsed tickets are kept in memory for all).
``… start`` starts a session, collects ``range(1)`` and stops; ``… context`` prints the seconds that a bare SparkContext
needs to start by spark-submit.
"""

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

SCHEMA = (
    "ticket_id string, client_id string, created_at timestamp, request string, request_type string, priority string"
)
COUNTS = {"tickets_by_type": "request_type", "tickets_by_priority": "priority", "tickets_by_team": "assigned_team"}


def session(*jars: str) -> "SparkSession":
    """Return a session on all cores, with the default SPARK_MEMORY of our processor."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[*]").appName("peer").config("spark.driver.memory", "2g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "4")
    return builder.config("spark.jars", ",".join(jars)).config("spark.driver.host", "127.0.0.1").getOrCreate()


def read(spark: "SparkSession", broker: str, topic: str) -> "DataFrame":
    """Return a lazy DataFrame of the tickets of a topic with their teams."""
    from pyspark.sql import functions as f

    source = spark.read.format("kafka").option("kafka.bootstrap.servers", broker).option("subscribe", topic)
    source = source.option("startingOffsets", "earliest").option("endingOffsets", "latest")
    tickets = (
        source.load().select(f.from_json(f.col("value").cast("string"), SCHEMA).alias("ticket")).select("ticket.*")
    )
    team = (
        f.when(f.col("request_type") == "account", "Account Management")
        .when(f.col("request_type") == "billing", "Billing Team")
        .when(f.col("request_type") == "technical", "Technical Support")
        .when(f.col("request_type") == "general", "General Support")
    )
    return tickets.withColumn("assigned_team", team)


def write(tickets: "DataFrame", folder: str) -> None:
    """Write the datasets and the metrics, one after the other."""
    from pyspark.sql import functions as f

    tickets.write.option("compression", "zstd").parquet(f"{folder}/tickets_with_assignment")
    urgent = tickets.where(f.col("priority").isin("high", "critical"))
    urgent.write.option("compression", "zstd").parquet(f"{folder}/high_priority_tickets")
    for name, column in COUNTS.items():
        tickets.groupBy(column).count().coalesce(1).write.parquet(f"{folder}/{name}")
    hour = f.date_trunc("hour", "created_at").alias("hour")
    by_hour = tickets.groupBy(hour, "request_type", "priority").count()
    by_hour.coalesce(1).write.parquet(f"{folder}/tickets_by_hour")
    metrics = tickets.agg(f.count("*").alias("total_tickets"), f.countDistinct("client_id").alias("unique_clients"))
    metrics.coalesce(1).write.parquet(f"{folder}/metrics")


def main(shape: str, *arguments: str) -> None:
    """Run the given ``shape``."""
    if shape == "context":
        began = time.monotonic()
        from pyspark import SparkConf, SparkContext

        conf = SparkConf().setMaster("local[*]").setAppName("peer").set("spark.ui.enabled", "false")
        context = SparkContext(conf=conf.set("spark.driver.host", "127.0.0.1"))
        print(time.monotonic() - began)
        context.stop()
        return
    if shape == "start":
        spark = session()
        spark.range(1).collect()
        spark.stop()
        return
    broker, topic, folder, *jars = arguments
    spark = session(*jars)
    tickets = read(spark, broker, topic)
    write(tickets.persist() if shape == "one-pass" else tickets, folder)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
