"""Datasets in, datasets out: folders, tables, and tar shards, stylized on one computer or on many."""
