"""The state machine of a partition: a multi-version key-value map with exactly-once sessions.

Bottom-up: ``rows`` (what stands on disk), ``refusal`` (an expected no), ``mvcc`` (writes),
``history`` (reads of the past), ``scan`` (sliced range reads), ``compaction`` (forgetting),
``session`` (exactly once), ``txn`` (one atomic step of many operations), ``admission`` (what never
enters the log), ``machine`` (the whole).
"""
