"""Samplers: the order of the batches of a training. Pure functions of (seed, epoch, step)."""

from lightning_embed.sampler.base import BatchPlan as BatchPlan
from lightning_embed.sampler.base import Sampler as Sampler
from lightning_embed.sampler.stream import StepSampler as StepSampler
