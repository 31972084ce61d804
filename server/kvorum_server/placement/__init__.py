"""Where things are: the catalog (group 0), which every node holds a replica of."""
