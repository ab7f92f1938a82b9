"""One image: options, style encoding, masks, tiling, and the `stylize` pipeline."""
