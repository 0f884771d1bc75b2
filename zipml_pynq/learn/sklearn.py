"""What the estimators take from scikit-learn: the one place that meets it.

Nothing else in the package needs it, and boards do not have it.
"""

try:
    from joblib import effective_n_jobs as effective_n_jobs  # type: ignore[import-untyped]
    from sklearn.base import BaseEstimator as BaseEstimator
    from sklearn.base import ClassifierMixin as ClassifierMixin
    from sklearn.base import RegressorMixin as RegressorMixin
    from sklearn.exceptions import ConvergenceWarning as ConvergenceWarning
    from sklearn.metrics import accuracy_score as accuracy_score
    from sklearn.metrics import r2_score as r2_score
    from sklearn.utils import check_random_state as check_random_state
    from sklearn.utils import compute_class_weight as compute_class_weight
    from sklearn.utils.extmath import safe_sparse_dot as safe_sparse_dot
    from sklearn.utils.metaestimators import available_if as available_if
    from sklearn.utils.multiclass import (
        check_classification_targets as check_classification_targets,
    )
    from sklearn.utils.validation import _check_sample_weight as _check_sample_weight
    from sklearn.utils.validation import check_is_fitted as check_is_fitted
    from sklearn.utils.validation import validate_data as validate_data
except ImportError as error:
    raise ImportError(
        "the estimators need scikit-learn 1.6 or later: pip install 'zipml_pynq[sklearn]'"
    ) from error
