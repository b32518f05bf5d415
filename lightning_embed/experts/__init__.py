"""Plans of experts: the models that a run trains, and the rows of each."""

from lightning_embed.experts.base import Expert as Expert
from lightning_embed.experts.base import ExpertPlan as ExpertPlan
from lightning_embed.experts.base import Jobs as Jobs
from lightning_embed.experts.base import Measure as Measure
