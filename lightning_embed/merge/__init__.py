"""The public names for merge strategies: all that a plugin needs.

The engine is `lightning_embed.merge.engine.merge_models`. It is not imported here, so that plugins load fast.
"""

from lightning_embed.merge.blocks.gram import cosine_matrix as cosine_matrix
from lightning_embed.merge.blocks.gram import gram_matrices as gram_matrices
from lightning_embed.merge.blocks.stream import Block as Block
from lightning_embed.merge.blocks.stream import for_each_parameter as for_each_parameter
from lightning_embed.merge.blocks.stream import read_blocks as read_blocks
from lightning_embed.merge.contract import SEVERAL as SEVERAL
from lightning_embed.merge.contract import STATISTICS as STATISTICS
from lightning_embed.merge.contract import Cut as Cut
from lightning_embed.merge.contract import Law as Law
from lightning_embed.merge.contract import MergeStrategy as MergeStrategy
from lightning_embed.merge.contract import Model as Model
from lightning_embed.merge.contract import OutDtype as OutDtype
from lightning_embed.merge.contract import Plan as Plan
from lightning_embed.merge.contract import Probe as Probe
from lightning_embed.merge.contract import Reporter as Reporter
from lightning_embed.merge.contract import Source as Source
from lightning_embed.merge.contract import Vocabulary as Vocabulary
from lightning_embed.merge.layer_rules import check_factor as check_factor
from lightning_embed.merge.layer_rules import layer_scales as layer_scales
from lightning_embed.merge.methods.from_statistics import Batches as Batches
from lightning_embed.merge.methods.from_statistics import FromStatistics as FromStatistics
from lightning_embed.merge.methods.from_statistics import in_memory as in_memory
from lightning_embed.merge.methods.granularity import RowGranularity as RowGranularity
from lightning_embed.merge.methods.granularity import TensorGranularity as TensorGranularity
from lightning_embed.merge.methods.granularity import groups as groups
from lightning_embed.merge.methods.granularity import spread as spread
from lightning_embed.merge.methods.granularity import summed as summed
from lightning_embed.merge.methods.learned import Learned as Learned
from lightning_embed.merge.methods.learned import Numbers as Numbers
from lightning_embed.merge.methods.linear import ALL as ALL
from lightning_embed.merge.methods.linear import Coefficients as Coefficients
from lightning_embed.merge.methods.linear import Combination as Combination
from lightning_embed.merge.methods.linear import combine as combine
from lightning_embed.merge.methods.linear import combined as combined
from lightning_embed.merge.methods.linear import inner_products as inner_products
from lightning_embed.merge.methods.per_matrix import PerMatrix as PerMatrix
from lightning_embed.merge.methods.per_matrix import without_rounding as without_rounding
from lightning_embed.merge.methods.sign_election import Combine as Combine
from lightning_embed.merge.methods.sign_election import disjoint_mean as disjoint_mean
from lightning_embed.merge.methods.sign_election import elected as elected
from lightning_embed.merge.methods.sign_election import fuse as fuse
from lightning_embed.merge.methods.sparse import Sparse as Sparse
from lightning_embed.merge.methods.sparse import check_density as check_density
from lightning_embed.merge.methods.sparse import check_probability as check_probability
from lightning_embed.merge.methods.sparse import num_kept as num_kept
from lightning_embed.merge.methods.sparse import uniform as uniform
from lightning_embed.merge.methods.spherical import CLEAR as CLEAR
from lightning_embed.merge.methods.spherical import Of as Of
from lightning_embed.merge.methods.spherical import Spherical as Spherical
from lightning_embed.merge.methods.spherical import along as along
from lightning_embed.merge.methods.spherical import arc as arc
from lightning_embed.merge.methods.spherical import facing as facing
from lightning_embed.merge.methods.spherical import smooth_step as smooth_step
from lightning_embed.merge.methods.thresholds import thresholds as thresholds
from lightning_embed.merge.methods.weighting import Weighted as Weighted
from lightning_embed.merge.methods.weighting import Weighting as Weighting

# Earlier names of three classes, for plugins that import them.
Granularity = RowGranularity
Grouping = TensorGranularity
Measured = FromStatistics
