"""General helpers: errors, checks, files, interrupts, memory, precision, and optional packages."""
