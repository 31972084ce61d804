"""What survives a crash: the write-ahead log, the engine, and the disk under them."""
