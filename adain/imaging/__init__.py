"""Image files to tensors and back."""
