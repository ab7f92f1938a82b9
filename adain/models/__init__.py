"""Networks and their parts: backbones, decoders, layers, and the reading of checkpoint files."""
