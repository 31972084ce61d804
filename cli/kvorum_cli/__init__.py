"""The command line of kvorum: ``kvorum put``, ``kvorum up`` and the rest.

It talks to a cluster only through the SDK, like any other program, and starts nodes as processes;
of the server it imports nothing. Read it in this order: ``exits`` (what a shell sees of a result),
``settings`` (what stands before or after every verb), ``output`` (bytes for people and for
programs), then the verbs: ``kv``, ``txn``, ``cluster``, ``local_cluster`` behind ``up``, ``load``
behind ``bench``. ``main`` puts them together.

Two rules hold everywhere. A mistake of the user, or a cluster that does not answer, is one line on
standard error and a documented exit code, never a traceback. And whatever is slow to import (gRPC,
asyncio, rich) is imported by the functions that need it, so that help and completion come at once.
"""
