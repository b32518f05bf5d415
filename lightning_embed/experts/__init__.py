"""Plans of experts: which models a run trains, each on which rows."""

from lightning_embed.experts.base import Expert as Expert
from lightning_embed.experts.base import ExpertPlan as ExpertPlan
from lightning_embed.experts.base import Measure as Measure
