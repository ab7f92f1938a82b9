"""Videos: formats, decoding, temporal smoothing, and encoding."""
