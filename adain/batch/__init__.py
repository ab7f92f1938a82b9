"""Many images: jobs, folders, and the manifest of a run."""
