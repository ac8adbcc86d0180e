"""What must be in the lake before Trino and Spark come: the catalog's tables and the bucket.

`python -m lakehouse.stack.catalog` does it from the environment's settings, as docker-compose.yml's first job.
"""

from __future__ import annotations

from urllib.parse import urlparse

from pyarrow.fs import FileType, S3FileSystem

from lakehouse.catalog import open_catalog
from lakehouse.settings import Settings, load_settings


def make_lake(settings: Settings) -> None:
    """Make the catalog's tables (by PyIceberg: V1) and the warehouse's bucket. Safe to run twice."""
    open_catalog(settings)
    if settings.catalog.warehouse.startswith("s3"):
        make_bucket(settings)


def make_bucket(settings: Settings) -> None:
    """Make the warehouse's bucket where it is not there. Raises OSError while the server does not answer."""
    s3, bucket = settings.s3, urlparse(settings.catalog.warehouse).netloc
    server = S3FileSystem(
        endpoint_override=s3.endpoint,
        region=s3.region,
        access_key=s3.access_key,
        secret_key=s3.secret_key.get_secret_value() if s3.secret_key else None,
        allow_bucket_creation=True,
        connect_timeout=2,
        request_timeout=5,
    )
    if server.get_file_info(bucket).type is FileType.NotFound:
        server.create_dir(bucket)
    # A bucket is listed before a volume server has joined; only a write proves that data have a place.
    with server.open_output_stream(f"{bucket}/.ready") as file:
        file.write(b"ready")


if __name__ == "__main__":
    make_lake(load_settings())
