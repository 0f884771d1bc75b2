"""What a data set's columns, labels and classes are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zipml_pynq.errors import ArgumentError


@dataclass(frozen=True)
class Names:
    """Names that travel with a data set, as far as they are known.

    Attributes
    ----------
    features : tuple of str or None
        One a column of the raw samples.
    label : str or None
        Of the column of labels.
    classes : tuple of str or None
        Ascending; labels are their numbers, from 0 on.

    Raises
    ------
    ArgumentError
        No text, names that are there twice, or classes that do not ascend.
    """

    features: tuple[str, ...] | None = None
    label: str | None = None
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for kind, names in (("features", self.features), ("classes", self.classes)):
            if names is None:
                continue
            if not all(isinstance(name, str) for name in names):
                raise ArgumentError(f"names of {kind} were {names!r}; allowed is text")
            if len(set(names)) != len(names):
                first = next(name for i, name in enumerate(names) if name in names[:i])
                raise ArgumentError(f"names of {kind} had {first!r} twice; allowed is once")
        if self.classes is not None and list(self.classes) != sorted(self.classes):
            raise ArgumentError(f"names of classes were {self.classes!r}; they must ascend")

    @classmethod
    def of_frame(cls, X: Any, y: Any = None) -> Names:
        """Those of a data frame and a series, where they have any that are text."""
        columns = getattr(X, "columns", None)
        features = None if columns is None else tuple(columns)
        text = features is not None and all(isinstance(name, str) for name in features)
        if features is None or not text or len(set(features)) != len(features):
            features = None  # frames may have numbers for names, or one twice
        label = getattr(y, "name", None)
        return cls(features, label if isinstance(label, str) else None)

    def metadata(self) -> dict[str, str]:
        """As a file holds them; empty where nothing is known."""
        known = {
            "feature_names": self.features,
            "label_name": self.label,
            "class_names": self.classes,
        }
        return {key: json.dumps(names) for key, names in known.items() if names is not None}

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str]) -> Names:
        """What :meth:`metadata` wrote; ValueError or TypeError if it was altered."""

        def read(key: str) -> Any:
            return json.loads(metadata.get(key, "null"))

        features, classes = read("feature_names"), read("class_names")
        return cls(
            None if features is None else tuple(features),
            read("label_name"),
            None if classes is None else tuple(classes),
        )
