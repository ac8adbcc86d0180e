"""What maintenance has to know of a table, without Spark: its health, its files, and which of them nothing needs."""
