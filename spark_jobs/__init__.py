"""Spark jobs that write and maintain the tables."""
