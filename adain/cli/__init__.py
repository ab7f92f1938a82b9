"""The `adain` command."""
