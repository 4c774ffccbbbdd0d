"""How a run lives in a bucket.

An object store has no locks, no renames and no appending. So a run in a bucket has a working copy
on the disk of every host (`working_copy`): stages work on it as on any folder, and what they leave
is copied to the bucket (`bucket`), a manifest after everything that it describes. One process at a
time may do so: the one that holds the lease, an object in the run (`lease`). Checkpoints are the
exception: every process writes its part of them to the bucket itself.
"""
