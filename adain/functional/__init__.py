"""Pure functions of tensors: statistics, normalization, convolutions, color, filters, and losses."""
