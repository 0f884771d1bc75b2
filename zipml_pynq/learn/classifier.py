"""The scikit-learn classifier: SVM, logistic regression, LS-SVM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from zipml_pynq.data.checks import check_choice
from zipml_pynq.data.normalization import Normalization
from zipml_pynq.errors import ArgumentError
from zipml_pynq.learn.models import probabilities
from zipml_pynq.learn.multinomial import MOST_MARGINS, Multinomial
from zipml_pynq.learn.parameters import ATTRIBUTES, PARAMETERS
from zipml_pynq.learn.problem import SIGNS, Data, Problem, Run, own_labels
from zipml_pynq.learn.sklearn import (
    ClassifierMixin,
    available_if,
    check_classification_targets,
    compute_class_weight,
)
from zipml_pynq.learn.streaming import StreamingEstimator

#: What the logistic loss makes of several classes.
MULTI_CLASS = ("auto", "multinomial", "ovr")


def _has_probabilities(estimator: ZipMLClassifier) -> bool:
    """Whether the loss is the logistic one; raises AttributeError if not."""
    if estimator.loss != "logistic":
        raise AttributeError(
            f"probabilities need loss='logistic'; this estimator's is {estimator.loss!r}"
        )
    return True


class ZipMLClassifier(ClassifierMixin, StreamingEstimator):
    __doc__ = f"""Linear classification, trained from data at 1 to 8 bits a value.

    Several classes are trained one against the rest, all from one packed data set. With the
    logistic loss they are refined together, where they are refined, to the optimum of the
    multinomial logistic loss, which LogisticRegression has.

    Parameters
    ----------
    loss : {{"squared_hinge", "hinge", "logistic", "least_squares"}}, default="squared_hinge"
        Of the smooth SVM, which is LinearSVC's default too, the SVM, logistic regression, and the
        LS-SVM.
{PARAMETERS}    class_weight : dict, "balanced" or None, default=None
        Factors of the losses of classes; of several classes, of each one against the rest.
    multi_class : {{"auto", "multinomial", "ovr"}}, default="auto"
        What ``loss="logistic"`` makes of three and more classes: "multinomial" one model of all of
        them, whose probabilities are the softmax of its decision functions, which takes refinement
        (``refine``) and at most 2^25 classes times samples; "ovr" models of each one against the
        rest; "auto" the former where that is possible. Two classes have one model in any case.

    Attributes
    ----------
    classes_ : ndarray
    multinomial_ : bool
        Whether the models are those of the multinomial logistic loss.
    coef_ : ndarray, shape (1 or n_classes, n_features)
        In raw units.
    intercept_ : ndarray, shape (1 or n_classes,)
{ATTRIBUTES}
    Examples
    --------
    >>> from zipml_pynq.learn.classifier import ZipMLClassifier
    >>> model = ZipMLClassifier("logistic", bits=4, random_state=0).fit(X, y)  # doctest: +SKIP
    >>> model.predict_proba(X_test)  # doctest: +SKIP
    """

    _losses = ("squared_hinge", "hinge", "logistic", "least_squares")
    classes_: NDArray
    multinomial_: bool

    def __init__(
        self,
        loss: str = "squared_hinge",
        *,
        bits: int | Sequence[int] | str = 4,
        sampling: str = "auto",
        levels: str = "auto",
        approximation: str = "direct",
        degree: int | None = None,
        refetch: bool = False,
        model_bits: int = 0,
        gradient_bits: int = 0,
        model_range: float | str = "auto",
        gradient_range: float | str = "auto",
        penalty: str = "l2",
        alpha: float | str = "auto",
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        batch_size: int | str = "auto",
        eta0: float | str = "auto",
        learning_rate: str | Callable[[int], float] = "auto",
        feature_steps: bool = True,
        average: bool | str = "auto",
        redraw: bool | str = "auto",
        refine: bool | str = "auto",
        shuffle: bool | str = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        class_weight: Any = None,
        multi_class: str = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
        device: Any = "host",
        verbose: int = 0,
    ) -> None:
        super().__init__(
            loss,
            bits=bits,
            sampling=sampling,
            levels=levels,
            approximation=approximation,
            degree=degree,
            refetch=refetch,
            model_bits=model_bits,
            gradient_bits=gradient_bits,
            model_range=model_range,
            gradient_range=gradient_range,
            penalty=penalty,
            alpha=alpha,
            l1_ratio=l1_ratio,
            fit_intercept=fit_intercept,
            max_iter=max_iter,
            tol=tol,
            batch_size=batch_size,
            eta0=eta0,
            learning_rate=learning_rate,
            feature_steps=feature_steps,
            average=average,
            redraw=redraw,
            refine=refine,
            shuffle=shuffle,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            warm_start=warm_start,
            n_jobs=n_jobs,
            random_state=random_state,
            device=device,
            verbose=verbose,
        )
        self.class_weight = class_weight
        self.multi_class = multi_class

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("multi_class", self.multi_class, MULTI_CLASS)
        if self.multi_class == "multinomial" and self.loss != "logistic":
            raise ArgumentError(
                f"multi_class was 'multinomial' with loss {self.loss!r}; it is of 'logistic' alone"
            )

    def partial_fit(
        self,
        X: Any,
        y: Any = None,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Any:
        """Learn from the next rows of a stream, from the models so far.

        Ranges and means of the columns are those of all rows so far; where they change, the models
        are carried over. Weights are taken as they are. See :meth:`fit` for the others.

        Parameters
        ----------
        classes : array_like, shape (n_classes,), optional
            All classes; needed in the first call.
        """
        if self.class_weight == "balanced":
            raise ArgumentError(
                "class_weight was 'balanced', which partial_fit cannot know; allowed is a "
                "dictionary, such as compute_class_weight('balanced', classes=.., y=..) gives"
            )
        if self.multi_class == "multinomial":
            raise ArgumentError(
                "multi_class was 'multinomial' in partial_fit, which refines nothing; allowed are "
                "'auto' and 'ovr', with which several classes are trained one against the rest"
            )
        go_on = hasattr(self, "model_")
        if not go_on and classes is None:
            raise ArgumentError("classes was None in the first call of partial_fit; name them all")
        return self._partial_fit(X, y, sample_weight, classes)

    def _targets(self, X: Any, y: Any, go_on: bool, classes: ArrayLike | None) -> Any:
        if y is None:
            y = own_labels(X)
            whole = np.rint(y)
            if not np.allclose(y, whole, rtol=0, atol=1e-3):
                raise ArgumentError(
                    "y was None with a packed data set whose labels are no integers; give the "
                    "labels of the samples"
                )
            y = whole.astype(np.int64)
            if X.names.classes is not None:
                y = np.array(X.names.classes)[y]
        check_classification_targets(y)
        found = np.unique(y)
        if go_on:
            if classes is not None and not np.array_equal(np.unique(classes), self.classes_):
                raise ArgumentError(
                    f"classes was {classes!r}; this estimator was fitted to {self.classes_}"
                )
            known = self.classes_
        elif classes is not None:
            known = np.unique(classes)
        else:
            known = found
        unknown = np.setdiff1d(found, known)
        if unknown.size:
            raise ArgumentError(f"y had the label(s) {unknown}; the classes are {known}")
        if len(known) < 2:
            raise ArgumentError(f"y had one class, {known}; two or more classes are needed")
        self.classes_ = known
        return y

    def _problems(
        self, X: Any, y: Any, weights: NDArray[np.float64] | None, own: bool, partial: bool
    ) -> tuple[list[Problem], Normalization | None]:
        present = np.union1d(self.classes_, y) if partial else self.classes_
        factors = self._class_factors(present, y)
        problems = []
        for number in [1] if len(self.classes_) == 2 else range(len(self.classes_)):
            positive = y == self.classes_[number]
            w = weights
            if factors is not None:
                rest = factors[0] if len(self.classes_) == 2 else 1.0
                w = np.where(positive, factors[number], rest)
                w = w if weights is None else w * weights
                w = w if partial else self._scaled(w)
            problems.append(Problem(np.where(positive, 1.0, -1.0), w))
        return problems, SIGNS

    def _class_factors(self, classes: NDArray, y: Any) -> NDArray[np.float64] | None:
        """Factors of the losses of classes."""
        if self.class_weight is None:
            return None
        return np.asarray(compute_class_weight(self.class_weight, classes=classes, y=y))

    def _together(
        self, data: Data, y: Any, weights: NDArray[np.float64] | None
    ) -> Multinomial | None:
        classes, samples = len(self.classes_), data.packed.layout.samples
        if self.loss != "logistic" or self.multi_class == "ovr" or classes == 2:
            return None
        refines, fits = self._refines(data), classes * samples <= MOST_MARGINS
        if self.multi_class == "multinomial" and not (refines and fits):
            why = f"at most {MOST_MARGINS} classes times samples, and here are {classes * samples}"
            if not refines:
                why = (
                    "a fit that is refined: of raw samples in 1 to 16 bits, with penalty 'l2', and "
                    "refine=True where other parameters tell how to train"
                )
            raise ArgumentError(f"multi_class was 'multinomial'; allowed with it is {why}")
        if not (refines and fits):
            return None
        numbers = np.searchsorted(self.classes_, y)
        own = np.ones(len(numbers)) if weights is None else weights
        factors = self._class_factors(self.classes_, y)
        if factors is not None:
            own = self._scaled(own * factors[numbers])
        return Multinomial(numbers, own, classes, self._objective_penalties(data)[0])

    def _keep(self, runs: list[Run], done: int, alpha: float) -> None:
        super()._keep(runs, done, alpha)
        self.multinomial_ = runs[0].model.ndim == 2

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Distances to the separating planes, shape (n_samples,) or (n_samples, n_classes).

        Of a multinomial model logarithms of probabilities, up to what a sample's have alike.
        """
        z = self._linear(X)
        return z[:, 0] if z.shape[1] == 1 else z

    def predict(self, X: Any) -> NDArray:
        """Classes of raw samples, shape (n_samples,)."""
        z = self.decision_function(X)
        return self.classes_[(z > 0).astype(np.intp) if z.ndim == 1 else z.argmax(axis=1)]

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probabilities of the classes, shape (n_samples, n_classes).

        Of several classes the softmax of the decision functions where the model is multinomial
        (``multinomial_``), else those of each one against the rest, brought to a sum of 1.
        """
        return probabilities(self.decision_function(X), self.multinomial_)

    @available_if(_has_probabilities)
    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Logarithms of :meth:`predict_proba`."""
        return np.log(self.predict_proba(X))
