"""Lightning callbacks: measurements, snapshots, averages and checkpoints of a training."""

from lightning_embed.callback.embedding_geometry import EmbeddingGeometry as EmbeddingGeometry
from lightning_embed.callback.evaluate import WhileTraining as WhileTraining
from lightning_embed.callback.gradient_conflict import GradientConflict as GradientConflict
from lightning_embed.callback.progress import StepProgress as StepProgress
from lightning_embed.callback.resume import AtomicCheckpointIO as AtomicCheckpointIO
from lightning_embed.callback.resume import ResumeCheckpoint as ResumeCheckpoint
from lightning_embed.callback.snapshots import ExponentialAverage as ExponentialAverage
from lightning_embed.callback.snapshots import Snapshots as Snapshots
from lightning_embed.callback.throughput import Throughput as Throughput
