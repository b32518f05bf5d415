"""Lightning callbacks: what happens beside the steps."""

from lightning_embed.callback.checkpoint import AtomicCheckpointIO as AtomicCheckpointIO
from lightning_embed.callback.checkpoint import ResumeCheckpoint as ResumeCheckpoint
from lightning_embed.callback.embedding_geometry import EmbeddingGeometry as EmbeddingGeometry
from lightning_embed.callback.gradient_conflict import GradientConflict as GradientConflict
from lightning_embed.callback.sources import ExponentialAverage as ExponentialAverage
from lightning_embed.callback.sources import Snapshots as Snapshots
from lightning_embed.callback.throughput import Throughput as Throughput
from lightning_embed.callback.while_training import WhileTraining as WhileTraining
