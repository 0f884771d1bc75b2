"""Trained linear models: what predicts on raw samples, saved, loaded and exported.

A model file is numbers and text in a safetensors file (docs/models.md), so that loading one runs no
code. It needs NumPy alone; the exports need scikit-learn (extra ``sklearn``) and onnx (extra
``onnx``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, log_expit

from zipml_pynq.constants import MODEL_ONE
from zipml_pynq.data.checks import check_choice
from zipml_pynq.data.columns import column_range
from zipml_pynq.data.files import written
from zipml_pynq.data.names import Names
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.data.tensor_file import FileKind, read_tensors, write_tensors
from zipml_pynq.errors import ArgumentError, ModelFileError
from zipml_pynq.learn.onnx_graph import onnx_model
from zipml_pynq.training.losses import LOSSES
from zipml_pynq.training.result import TrainResult

#: The file of a model.
FILE_KIND = FileKind(
    name="model",
    format="zipml-pynq model",
    version=1,
    error=ModelFileError,
    remedy="train and save the model again",
    tensors={
        "coef": np.dtype("<f8"),
        "intercept": np.dtype("<f8"),
        "model_fixed": np.dtype("<i4"),
        "mid": np.dtype("<f8"),
        "half": np.dtype("<f8"),
        "label_range": np.dtype("<f8"),
    },
    optional={},
)
#: SGDClassifier's names of the losses.
_SKLEARN_LOSSES = {
    "hinge": "hinge",
    "squared_hinge": "squared_hinge",
    "logistic": "log_loss",
    "least_squares": "squared_error",
}


@dataclass(frozen=True, eq=False)
class LinearModel:
    """One linear model, or one for each class or target, with all that predicting takes.

    Attributes
    ----------
    coef : ndarray, float64, (models, columns)
        In raw units.
    intercept : ndarray, float64, (models,)
        In raw units; of a classifier, of its decision function.
    model_fixed : ndarray, int32, (models, features)
        As the accelerator holds it, in normalized units.
    normalization : Normalization
        Leads from one to the other; of a classifier its labels are -1 and 1.
    loss : str
        "least_squares", "hinge", "squared_hinge" or "logistic".
    classes : ndarray, (2,) for one model or (models,), or None
        Numbers, text or booleans, ascending; None for regression.
    bits : tuple of int
        Bits a value that it was trained at, of every epoch if they changed; 32 for float32.
    feature_names : tuple of str or None
    label_name : str or None
        Of the column of labels that it was trained on.
    multinomial : bool
        Whether the models of three or more classes are those of the multinomial logistic loss,
        whose probabilities are a softmax, and not of each class against the rest.
    details : dict
        What else is known of the training, as JSON holds it; of an estimator its parameters.

    Raises
    ------
    ArgumentError
        Shapes, classes or loss do not go together.
    """

    coef: NDArray[np.float64]
    intercept: NDArray[np.float64]
    model_fixed: NDArray[np.int32]
    normalization: Normalization
    loss: str = "least_squares"
    classes: NDArray | None = None
    bits: tuple[int, ...] = ()
    feature_names: tuple[str, ...] | None = None
    details: dict[str, Any] = field(default_factory=dict)
    label_name: str | None = None
    multinomial: bool = False

    def __post_init__(self) -> None:
        check_choice("loss", self.loss, tuple(LOSSES))
        models = len(self.intercept)
        columns, features = self.normalization.columns, self.normalization.features
        for name, shape in (
            ("coef", (models, columns)),
            ("intercept", (models,)),
            ("model_fixed", (models, features)),
        ):
            found = getattr(self, name)
            if found.shape != shape:
                raise ArgumentError(f"{name} had shape {found.shape}; allowed is {shape} here")
            if not np.isfinite(found).all():
                raise ArgumentError(f"{name} held NaN or infinity; every number must be finite")
        if self.classes is None:
            if LOSSES[self.loss].margin:
                raise ArgumentError(f"classes was None with loss {self.loss!r}, of a classifier")
            wanted = max(1, models)
        else:
            classes = np.asarray(self.classes)
            if classes.dtype.kind == "O":  # text of a frame
                classes = np.array(classes.tolist())
            if classes.dtype.kind not in "biufU":
                raise ArgumentError(
                    f"classes had dtype {classes.dtype}; allowed are numbers, text and booleans"
                )
            if len(np.unique(classes)) != len(classes) or not (np.sort(classes) == classes).all():
                raise ArgumentError(f"classes was {classes}; they must ascend")
            object.__setattr__(self, "classes", classes)
            wanted = 1 if len(classes) == 2 else len(classes)
        if models != wanted or (self.classes is not None and len(self.classes) < 2):
            raise ArgumentError(
                f"classes was {self.classes} with {models} model(s); two classes have one model, "
                "more have one each, and regression has one a target"
            )
        if self.multinomial and (self.loss != "logistic" or models < 3):
            raise ArgumentError(
                f"multinomial was True with loss {self.loss!r} and {models} model(s); it is of "
                "'logistic' and three or more classes"
            )
        if self.feature_names is not None and len(self.feature_names) != columns:
            raise ArgumentError(
                f"feature_names had {len(self.feature_names)} names; allowed is one a column, "
                f"{columns}"
            )

    # ---- from training -------------------------------------------------------------------------

    @classmethod
    def from_result(
        cls,
        result: TrainResult | Sequence[TrainResult],
        normalization: Normalization,
        *,
        loss: str = "least_squares",
        classes: ArrayLike | None = None,
        bits: int | Sequence[int] = (),
        feature_names: Sequence[str] | None = None,
    ) -> LinearModel:
        """The model that :meth:`zipml_pynq.accelerator.driver.SgdDriver.train` handed back.

        Parameters
        ----------
        result : TrainResult or sequence of them
            Of several classes, one each, in the order of ``classes``.
        normalization : Normalization
            ``packed.normalization`` of the data set that was trained on.
        loss : str
            What was trained with.
        classes : array_like, optional
            What predictions are; by default, where the loss has classes, the two labels that were
            trained on. With least squares they make a classifier (LS-SVM) of a regression.
        bits : int or sequence of int
        feature_names : sequence of str, optional

        Raises
        ------
        ArgumentError
            These do not go together.
        """
        results = [result] if isinstance(result, TrainResult) else list(result)
        check_choice("loss", loss, tuple(LOSSES))
        if classes is None and LOSSES[loss].margin:
            middle, half = normalization.label_mid, normalization.label_half
            classes = np.array([middle - half, middle + half])
            if (classes == np.rint(classes)).all():
                classes = classes.astype(np.int64)
        if classes is not None:
            # the decision function is in units of the labels -1 and 1
            normalization = replace(normalization, label_mid=0.0, label_half=1.0)
        fixed = np.stack([r.model_fixed for r in results])
        raw = [normalization.to_raw_model(model / MODEL_ONE) for model in fixed]
        return cls(
            np.stack([coefficients for coefficients, _ in raw]),
            np.array([intercept for _, intercept in raw]),
            fixed,
            normalization,
            loss,
            None if classes is None else np.asarray(classes),
            (int(bits),) if isinstance(bits, int | np.integer) else tuple(map(int, bits)),
            None if feature_names is None else tuple(feature_names),
        )

    # ---- predictions ---------------------------------------------------------------------------

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """``X @ coef + intercept`` of raw samples: (N,) for one model, else (N, models).

        Parameters
        ----------
        X : array_like or sparse matrix, (N, columns)

        Raises
        ------
        ArgumentError
            ``X`` is not numeric, not finite, empty or of another width; or a data frame that lacks
            one of ``feature_names``, which are taken by name.
        """
        a = self.normalization.check(self._by_name(X))
        column_range("X", a)
        z = np.asarray(a @ self.coef.T + self.intercept)
        return z[:, 0] if z.shape[1] == 1 else z

    def _by_name(self, X: Any) -> Any:
        """The columns that this model knows, in its order, of a data frame; others as they are."""
        found = Names.of_frame(X).features
        if self.feature_names is None or found is None or found == self.feature_names:
            return X
        missing = [name for name in self.feature_names if name not in found]
        if missing:
            raise ArgumentError(
                f"X had no column {', '.join(map(repr, missing))}; allowed are frames with the "
                "columns that the model was trained on, in any order"
            )
        return X[list(self.feature_names)]

    def predict(self, X: Any) -> NDArray:
        """Labels (N,) of raw samples: numbers in raw units, (N, models) of several, or classes."""
        z = self.decision_function(X)
        if self.classes is None:
            return z
        return self.classes[(z > 0).astype(np.intp) if z.ndim == 1 else z.argmax(axis=1)]

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes, (N, classes), with the logistic loss.

        Of several classes the softmax of the decision functions where the model is multinomial,
        else those of each one against the rest, brought to a sum of 1.

        Raises
        ------
        ArgumentError
            The model has another loss; otherwise as :meth:`decision_function`.
        """
        if self.loss != "logistic":
            raise ArgumentError(
                f"loss was {self.loss!r}; probabilities are those of 'logistic' alone"
            )
        return probabilities(self.decision_function(X), self.multinomial)

    # ---- files ---------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this model to ``path``, a safetensors file, all or nothing.

        Raises
        ------
        ArgumentError
            ``path`` is a directory, or its folder does not exist.
        ModelFileError
            The file cannot be written.
        """
        own = self.normalization
        tensors: dict[str, NDArray] = {
            "coef": self.coef,
            "intercept": self.intercept,
            "model_fixed": self.model_fixed,
            "mid": own.mid,
            "half": own.half,
            "label_range": np.array([own.label_mid, own.label_half]),
        }
        metadata = {
            "loss": self.loss,
            "bits": " ".join(map(str, self.bits)),
            "has_intercept": str(int(own.intercept)),
            "details": json.dumps(self.details),
            "multinomial": str(int(self.multinomial)),
        }
        if self.classes is not None:
            metadata["classes"] = json.dumps(self.classes.tolist())
            metadata["classes_dtype"] = self.classes.dtype.str
        if self.feature_names is not None:
            metadata["feature_names"] = json.dumps(self.feature_names)
        if self.label_name is not None:
            metadata["label_name"] = json.dumps(self.label_name)
        write_tensors(path, FILE_KIND, tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LinearModel:
        """Read a file that :meth:`save` wrote; nothing in it is executed.

        Raises
        ------
        ModelFileError
            The file is missing, truncated, altered, of another version or no model.
        """
        tensors, metadata = read_tensors(path, FILE_KIND, mmap=False)
        try:
            middle, half = tensors["label_range"]
            classes = None
            if "classes" in metadata:
                dtype = np.dtype(metadata["classes_dtype"])
                classes = np.array(json.loads(metadata["classes"]), dtype)
            names = metadata.get("feature_names")
            return cls(
                tensors["coef"],
                tensors["intercept"],
                tensors["model_fixed"],
                Normalization(
                    tensors["mid"],
                    tensors["half"],
                    middle,
                    half,
                    bool(int(metadata["has_intercept"])),
                ),
                metadata["loss"],
                classes,
                tuple(int(b) for b in metadata["bits"].split()),
                None if names is None else tuple(json.loads(names)),
                dict(json.loads(metadata["details"])),
                json.loads(metadata.get("label_name", "null")),
                bool(int(metadata.get("multinomial", "0"))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"'{os.fspath(path)}' was altered: {error}") from error

    # ---- exports -------------------------------------------------------------------------------

    def to_sklearn(self) -> Any:
        """The same model as a fitted estimator of scikit-learn, in raw units.

        Regression becomes LinearRegression, a multinomial model LogisticRegression. Every other
        classifier becomes SGDClassifier of the same loss, whose rules are those of one class
        against the rest, probabilities included; LogisticRegression's are not, for it takes several
        classes together (softmax).

        Raises
        ------
        ImportError
            scikit-learn is not installed.
        """
        try:
            from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
        except ImportError as error:
            raise ImportError(
                "to_sklearn needs scikit-learn: pip install 'zipml_pynq[sklearn]'"
            ) from error
        intercept = self.normalization.intercept
        if self.classes is None:
            estimator = LinearRegression(fit_intercept=intercept)
            one = len(self.coef) == 1
            estimator.coef_ = self.coef[0].copy() if one else self.coef.copy()
            estimator.intercept_ = float(self.intercept[0]) if one else self.intercept.copy()
        else:
            if self.multinomial:
                estimator = LogisticRegression(fit_intercept=intercept)
            else:
                loss = _SKLEARN_LOSSES[self.loss]
                estimator = SGDClassifier(loss=loss, fit_intercept=intercept)
            estimator.coef_ = self.coef.copy()
            estimator.intercept_ = self.intercept.copy()
            estimator.classes_ = self.classes.copy()
        estimator.n_features_in_ = self.coef.shape[1]
        if self.feature_names is not None:
            estimator.feature_names_in_ = np.array(self.feature_names, dtype=object)
        return estimator

    def to_onnx(self, path: str | os.PathLike[str] | None = None, dtype: str = "float32") -> Any:
        """The same model as an ONNX graph from raw samples to predictions.

        Parameters
        ----------
        path : path-like, optional
            Where to write it, too.
        dtype : str
            "float32" or "float64", of the samples and of numbers that come out. Inside, everything
            is float64, as in :meth:`predict`.

        Returns
        -------
        onnx.ModelProto
            Input ``X``, (N, columns). Regression: output ``prediction``, (N,), of several targets
            (N, models). Classification:
            ``label``, (N,), int64 or text (float64 where the classes are not whole numbers), then
            ``probabilities``, (N, classes), with the logistic loss, or else ``scores``, (N,
            models), the decision function.

        Raises
        ------
        ArgumentError
            Another ``dtype``, or ``path`` is a directory or in none.
        ImportError
            onnx is not installed.
        """
        check_choice("dtype", dtype, ("float32", "float64"))
        model = onnx_model(
            self.coef,
            self.intercept,
            self.classes,
            dtype,
            ("softmax" if self.multinomial else "sigmoid") if self.loss == "logistic" else None,
            {"loss": self.loss, "bits": " ".join(map(str, self.bits))},
        )
        if path is not None:
            with written(path, "wb") as file:
                file.write(model.SerializeToString())
        return model


def probabilities(z: NDArray[np.float64], multinomial: bool) -> NDArray[np.float64]:
    """Probabilities (N, classes) of decision functions (N,) or (N, classes) of logistic losses."""
    if z.ndim == 1:
        return np.stack([expit(-z), expit(z)], axis=1)
    log = z if multinomial else log_expit(z)
    p = np.exp(log - log.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))
