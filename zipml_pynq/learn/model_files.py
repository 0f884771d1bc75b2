"""Fitted estimators as files, and back."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import numpy as np

from zipml_pynq.errors import ModelFileError, ZipmlWarning
from zipml_pynq.learn.models import LinearModel
from zipml_pynq.learn.preparation import Preparation
from zipml_pynq.learn.sklearn import (
    ClassifierMixin,
    check_is_fitted,
)

#: Fitted attributes that are no part of the model itself.
_TOLD = (
    "n_iter_",
    "t_",
    "loss_curve_",
    "validation_curve_",
    "bytes_streamed_",
    "refetched_",
    "saturated_",
    "label_ranges_",
)


def _plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's, others as they are."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


class ModelFiles(Preparation):
    """``to_model``, ``save`` and ``load``."""

    def _kept_parameters(self) -> dict[str, Any]:
        """Parameters that a model file tells of."""
        parameters = self.get_params(deep=False)
        del parameters["device"]
        return parameters

    def to_model(self) -> LinearModel:
        """The fitted model by itself, which predicts without scikit-learn and exports to ONNX.

        Its ``details`` carry the parameters and what training told, for :meth:`load`. Parameters
        that are functions or random states are left out, with a ZipmlWarning; ``device`` always is.
        """
        check_is_fitted(self)
        parameters = self._kept_parameters()
        if isinstance(parameters.get("class_weight"), dict):
            pairs = parameters["class_weight"].items()
            # keys of JSON are text
            parameters["class_weight"] = [[_plain(key), _plain(w)] for key, w in pairs]
        for name, value in list(parameters.items()):
            parameters[name] = _plain(value)
            try:
                json.dumps(parameters[name])
            except TypeError:
                warnings.warn(
                    f"{name} was {value!r}, which a model file does not hold; it is left out",
                    ZipmlWarning,
                    stacklevel=3,
                )
                del parameters[name]
        told = {name: _plain(getattr(self, name)) for name in _TOLD if hasattr(self, name)}
        names = getattr(self, "feature_names_in_", None)
        return LinearModel(
            np.atleast_2d(self.coef_),
            self.intercept_,
            self.model_,
            self.normalization_,
            self.loss,
            getattr(self, "classes_", None),
            tuple(self._stored_bits()),
            None if names is None else tuple(names),
            {"estimator": type(self).__name__, "parameters": parameters, "told": told},
            multinomial=getattr(self, "multinomial_", False),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to ``path``, a safetensors file without any code in it.

        :meth:`load` and :meth:`zipml_pynq.learn.models.LinearModel.load` read it. See
        :meth:`to_model` for what of the parameters is left out.

        Raises
        ------
        ArgumentError
            ``path`` is a directory, or its folder does not exist.
        ModelFileError
            The file cannot be written.
        """
        self.to_model().save(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: Any = "host") -> Any:
        """The fitted estimator of a model file, with its parameters.

        A file that no estimator wrote has none but loss and bits; the others are the defaults.

        Raises
        ------
        ModelFileError
            The file is missing, truncated, altered, of another version, or of the other kind of
            model: regression, classification.
        """
        model = LinearModel.load(path)
        is_classifier = issubclass(cls, ClassifierMixin)
        if is_classifier != (model.classes is not None):
            kind = "a classifier" if model.classes is not None else "a regression"
            raise ModelFileError(f"'{os.fspath(path)}' holds {kind}; {cls.__name__} cannot load it")
        bits: Any = model.bits[0] if len(model.bits) == 1 else list(model.bits)
        parameters = {"loss": model.loss, **({"bits": bits} if model.bits else {})}
        parameters.update(model.details.get("parameters", {}))
        if isinstance(parameters.get("class_weight"), list):
            parameters["class_weight"] = dict(parameters["class_weight"])
        try:
            estimator = cls(device=device, **parameters)
        except TypeError as error:
            raise ModelFileError(f"'{os.fspath(path)}' was altered: {error}") from error
        told = {"n_iter_": 0, "t_": 0, **model.details.get("told", {})}
        for name in _TOLD:
            if name in told:
                value = told[name]
                setattr(estimator, name, np.array(value) if isinstance(value, list) else value)
        estimator.normalization_ = model.normalization
        estimator.model_ = model.model_fixed
        one = not is_classifier and not hasattr(estimator, "label_ranges_")
        estimator.coef_ = model.coef[0] if one else model.coef
        estimator.intercept_ = model.intercept
        estimator.n_features_in_ = model.normalization.columns
        if model.classes is not None:
            estimator.classes_ = model.classes
            estimator.multinomial_ = model.multinomial
        if model.feature_names is not None:
            estimator.feature_names_in_ = np.array(model.feature_names, dtype=object)
        return estimator
