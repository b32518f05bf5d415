"""The options of a teacher: the group `teacher`."""

from dataclasses import dataclass, field

from lightning_embed.errors import ConfigError


@dataclass(frozen=True)
class TeacherOptions:
    """A trained embedding model whose embeddings of all texts of the data are computed once, before the training.

    Losses read them: loss=distill_embeddings imitates them, loss=gist leaves out false negatives by them. The texts have
    the prompts, the pooling and the length of the teacher itself.

    Args:
        path: name on the Hugging Face hub, or a directory; None: no teacher.
        revision: branch, tag or commit of a hub name.
        prompts: text put before every text, by name, as in `encoder.prompts`; added to those of the teacher's directory.
        max_length: maximum number of tokens of a text, in the teacher's tokens; None: that of its directory. The lengths
            of a dataset (query_length, document_length) hold for the teacher too.
        dim: length to which its embeddings are reduced, by the directions in which those of the data are largest
            (uncentred PCA, so that dot products are kept as well as possible), normalised again; None: all.

    Raises:
        ConfigError: a number out of range, or options without a path.
    """

    path: str | None = None
    revision: str | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    max_length: int | None = None
    dim: int | None = None

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 3:
            raise ConfigError(f"teacher.max_length: expected at least 3 tokens, got {self.max_length}. Raise it.")
        if self.dim is not None and self.dim < 1:
            raise ConfigError(f"teacher.dim: expected at least 1 or null (all), got {self.dim}. Usual: the encoder's.")
        given = [name for name in ("revision", "prompts", "max_length", "dim") if getattr(self, name)]
        if self.path is None and given:
            raise ConfigError(
                f"teacher.{given[0]}: expected a teacher with it, got none. Give teacher.path, a directory or hub name."
            )
