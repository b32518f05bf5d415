"""Steps of training: the LightningModule, the cached step, the gathering over ranks, learning-rate schedules."""
