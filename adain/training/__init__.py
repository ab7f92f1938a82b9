"""Training: the LightningModule, the data, the callbacks, the optimizers, and the command line."""
