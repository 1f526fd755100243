"""Several nodes on one database: they know of each other, wake each other, share the work, and leave without a loss."""
