"""Resumption of Optuna searches that were killed."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, read_write

from lightning_embed.config.sweep_context import is_search


class ResumedSearch(Callback):
    """Resumes an Optuna study that is kept in a file: successful trials count towards `n_trials`.

    The seed of the sampler is increased, because with the original seed it would draw its first points again.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Subtract the successful trials from `n_trials`, if the sweeper keeps a study."""
        sweeper = config.hydra.sweeper
        if sweeper.get("storage") is None or not is_search(sweeper):
            return
        import optuna

        summaries = optuna.get_all_study_summaries(sweeper.storage)
        if sweeper.study_name not in [summary.study_name for summary in summaries]:
            return
        trials = optuna.load_study(study_name=sweeper.study_name, storage=sweeper.storage).get_trials(deepcopy=False)
        done = sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in trials)
        with read_write(config):
            sweeper.n_trials = max(0, sweeper.n_trials - done)
            if sweeper.sampler.get("seed") is not None:
                sweeper.sampler.seed += sum(trial.state.is_finished() for trial in trials)
        print(f"the search continues: {done} trials are done, {sweeper.n_trials} remain", flush=True)
