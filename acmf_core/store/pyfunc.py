"""A bundle behind MLflow's pyfunc interface, without pickle: the bundle directory itself is the model.

Named in the MLmodel file as the loader module, so that `mlflow.pyfunc.load_model("models:/acmf@champion")`
comes here. Knows nothing of mlflow.
"""

from pathlib import Path
from typing import Any, Final

import pandas as pd

from acmf_core.features import Features
from acmf_core.models import Bundle

OPEN_TIME: Final = "open_time"


class BundleModel:
    """Features in, probabilities out, by the same `Bundle.predict` as everywhere."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Probabilities of the rows of `model_input`.

        Parameters
        ----------
        model_input : DataFrame
            `open_time` (microseconds since the epoch, UTC) and the 66 columns of the schema, in time order.
            A row is predicted where its window of earlier rows is there too, else it is NaN.
        params : dict, optional
            Part of MLflow's interface; not used.

        Returns
        -------
        DataFrame (n, 3)
            p_long, p_short, p_neutral.
        """
        schema = self.bundle.stack.schema
        times = pd.to_datetime(model_input[OPEN_TIME].to_numpy(), unit="us", utc=True).as_unit("us")
        tabular = model_input[list(schema.tabular)].astype("float64")
        tabular.index = pd.DatetimeIndex(times, name=OPEN_TIME)
        probabilities = self.bundle.predict(Features(tabular[list(schema.sequence)], tabular, schema))
        return probabilities.reset_index(drop=True)


def _load_pyfunc(data_path: str) -> BundleModel:
    """MLflow's entry point: verifies and loads the bundle directory."""
    return BundleModel(Bundle.load(Path(data_path)))
