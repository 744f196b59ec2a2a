"""The archive: a directory of Parquet files, one for each day and stream. pyarrow is used here and nowhere else."""
