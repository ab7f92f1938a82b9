"""Metrics, grids, sweeps, contact sheets, and flicker."""
