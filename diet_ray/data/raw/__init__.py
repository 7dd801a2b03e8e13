"""From a log's raw files to Parquet in time order, in memory that doesn't grow with it."""
