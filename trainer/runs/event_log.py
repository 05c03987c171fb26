"""Losses and pictures for TensorBoard, where it is installed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import Tensor

from .run_folder import LossRow


class EventLog:
    """Writes TensorBoard's event files, until that fails; `writer` is PyTorch's `SummaryWriter`."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add_losses(self, row: LossRow) -> None:
        """Note the numbers of a step."""
        numbers = {
            "loss/step": row.loss,
            "loss/smoothed": row.smoothed_loss,
            "loss/evaluation": row.evaluation,
            "learning_rate": row.learning_rate,
            "way/signal over noise": row.over_noise,
            "way/turned": row.turned,
            "way/share": row.share,
        }
        for name, value in numbers.items():
            if value is not None:
                self._ask("add_scalar", name, value, row.step)

    def add_picture(self, step: int, pixels: Tensor) -> None:
        """Note a picture, uint8 [height, width, 3]."""
        self._ask("add_image", "preview", pixels.numpy(), step, dataformats="HWC")

    def close(self) -> None:
        """Write the rest."""
        self._ask("close")

    def _ask(self, method: str, *arguments: Any, **others: Any) -> None:
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*arguments, **others)
        except Exception:
            # It is large and easily broken by other packages; a run does not depend on it.
            self._writer = None
            logging.warning("Textual inversion: no more is written for TensorBoard", exc_info=True)


def open_event_log(folder: Path, step: int) -> EventLog | None:
    """A log in this folder, or None without TensorBoard.

    Args:
        folder: made if need be.
        step: the last one done; what the log holds beyond it is hidden.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter

        return EventLog(SummaryWriter(str(folder), purge_step=step + 1 if step else None))
    except ImportError:
        return None
    except Exception:
        logging.warning("Textual inversion: TensorBoard does not work here", exc_info=True)
        return None
