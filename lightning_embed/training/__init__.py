"""Training: the LightningModule, the cached step, gathering over ranks, learning-rate schedules."""
