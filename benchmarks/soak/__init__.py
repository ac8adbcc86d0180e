"""kill -9 of real jobs at random moments, side by side with each other and with readers, until the time is up.

data.py     what the jobs are given, and the plain model of what the lake has to hold
worker.py   a process that runs jobs; pool.py keeps some warm, and kills them
rounds.py   a round: jobs on two lanes, each killed and run again until it is done; then what runs alone
readers.py  epochs of pinned and of free snapshots, all the while
check.py    after each round: tables, tags, ledger, quarantine and files against the model
"""
