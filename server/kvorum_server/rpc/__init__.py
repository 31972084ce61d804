"""What is on the wire: streams between nodes, calls of clients, and the bytes of both."""
