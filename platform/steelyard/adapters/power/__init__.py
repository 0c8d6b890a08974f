"""Energy meters, one file a source, and the files through which a node's meter reports."""
