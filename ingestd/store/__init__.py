"""The PostgreSQL side: migrations, the write path, the reads. The SQL itself lives in sql/."""
