"""One node of a kvorum cluster; start with ARCHITECTURE.md, or with ``host.py``."""
