"""Loggers that keep pictures and models beside numbers: the words `wandb` and `tensorboard` of `logger=`."""
