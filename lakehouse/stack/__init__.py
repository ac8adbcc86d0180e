"""The local stack: Postgres, SeaweedFS (S3) and Trino as processes of this machine, all on loopback.

    control    up, down, status, logs: what the command line and the tests call
    state      the stack's folder: ports, passwords, pid records
    process    start, recognise and stop one process; guard stops them when their starter dies
    postgres, seaweed, trino   one service each: what to prepare, what to run, when it is ready
    artifacts, java            what Trino needs: fetched once into a cache, digests checked
    config     reqlake.toml, merged key by key
    files      the services' config files, the same ones that docker-compose.yml mounts

This package imports nothing heavy by itself, so that the guard starts fast.
"""
