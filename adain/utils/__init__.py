"""General helpers: errors, checks, files, interrupts, memory, precision, prefetching, and optional packages."""
