"""Training: the LightningModule, the data, callbacks, optimizers, and the command line."""
