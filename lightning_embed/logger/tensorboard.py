"""Logger of logger=tensorboard: Lightning's logger of TensorBoard, with pictures."""

from pathlib import Path

import lightning.pytorch.loggers
import numpy as np
from lightning.pytorch.utilities import rank_zero_only


class TensorBoardLogger(lightning.pytorch.loggers.TensorBoardLogger):
    """Writes the files that `tensorboard --logdir` shows: the same numbers as the other loggers, and PNG pictures."""

    @rank_zero_only
    def log_picture(self, key: str, file: Path) -> None:
        """Show a PNG; TensorBoard cannot show an SVG."""
        from PIL import Image

        if file.suffix == ".png":
            pixels = np.asarray(Image.open(file).convert("RGB"))
            self.experiment.add_image(key, pixels, dataformats="HWC")
