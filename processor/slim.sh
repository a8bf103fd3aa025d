#!/bin/sh
# Removes from an installed pyspark what the processor and a standalone cluster never load: two thirds of its size.
# Only whole families of jars are removed. The compose tests run on what is left.
set -eu

packages=$(echo "$1"/lib/python3*/site-packages)
cd "$packages/pyspark/jars"

# Hive, its metastore and its database
rm -f hive-* spark-hive* datanucleus-* derby* javax.jdo-* jdo-api-* bonecp-* HikariCP-* libthrift-* libfb303-* \
    antlr-runtime-* ST4-* jta-* transaction-api-* JLargeArrays-* json-1.8* stax-api-* jpam-* super-csv-* opencsv-*
# machine learning and graphs
rm -f spark-mllib* spark-graphx* breeze* spire* cats-kernel* algebra_* lapack-* blas-* arpack* JTransforms-* pmml-* \
    istack-commons-* jaxb-* txw2-*
# Kubernetes
rm -f kubernetes-* spark-kubernetes* vertx-* zjsonpatch-*
# Spark Connect, the shells and their compiler, the old streaming
rm -rf connect-repl spark-connect* spark-repl* spark-streaming_* spark-pipelines* scala-compiler-* jline-*
# state of streaming queries; masters that share their state
rm -f rocksdbjni-* zookeeper-* curator-*
# native libraries of other systems
rm -f netty-*-osx-* netty-*-windows-* netty-*-riscv64*

cd "$packages"
rm -rf pyspark/examples pyspark/data pyspark/ml pyspark/mllib pyspark/pandas pyspark/pipelines \
    pyspark/sql/connect pyspark/bin/*.cmd
# tests, C++ headers, and the parts of pyarrow that talk to servers
rm -rf pyarrow/tests pyarrow/include pyarrow/includes pyarrow/src
find numpy -type d -name tests -prune -exec rm -rf {} +
rm -f pyarrow/libarrow_flight* pyarrow/_flight* pyarrow/libarrow_s3* pyarrow/_s3fs*
