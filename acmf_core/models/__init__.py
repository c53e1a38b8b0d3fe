"""Models (layer 3): labels, encoder, stack, calibration, and the bundle that carries them."""

from acmf_core.models.bundle import Bundle
from acmf_core.models.fit import Fitted, fit
from acmf_core.models.labels import label
from acmf_core.models.scores import evaluate

__all__ = ["Bundle", "Fitted", "evaluate", "fit", "label"]
