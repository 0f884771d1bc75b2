"""A linear model as an ONNX graph from raw samples to predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Where ONNX's operators and format have been as they are used here: any runtime since 2022.
OPSET, IR_VERSION = 17, 8


class _Graph:
    """Nodes, constants and outputs of a graph whose input is ``X``; needs onnx."""

    def __init__(self, dtype: str) -> None:
        try:
            import onnx
            from onnx import helper, numpy_helper
        except ImportError as error:
            raise ImportError("to_onnx needs onnx: pip install 'zipml_pynq[onnx]'") from error
        self.onnx, self.helper, self.numpy_helper = onnx, helper, numpy_helper
        self.types = onnx.TensorProto
        self.kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.constants: dict[str, NDArray] = {}
        self.nodes: list[Any] = []
        self.outputs: list[Any] = []

    def node(self, kind: str, inputs: str, output: str, **attributes: Any) -> None:
        """``output = kind(inputs)``, names separated by spaces."""
        self.nodes.append(self.helper.make_node(kind, inputs.split(), [output], **attributes))

    def output(self, name: str, shape: list[Any], kind: int) -> None:
        """Hand a node's output out."""
        self.outputs.append(self.helper.make_tensor_value_info(name, kind, shape))

    def number(self, name: str, source: str, shape: list[Any]) -> None:
        """Hand a node's output out in the type of the samples."""
        self.node("Cast", source, name, to=self.kind)
        self.output(name, shape, self.kind)

    def model(self, columns: int, properties: dict[str, str]) -> Any:
        """The checked model; what no output needs is left out."""
        needed = {info.name for info in self.outputs}
        kept = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        graph = self.helper.make_graph(
            kept[::-1],
            "zipml",
            [self.helper.make_tensor_value_info("X", self.kind, ["N", columns])],
            self.outputs,
            [
                self.numpy_helper.from_array(a.astype(object) if a.dtype.kind == "U" else a, name)
                for name, a in self.constants.items()
                if name in needed
            ],
        )
        model = self.helper.make_model(
            graph,
            producer_name="zipml_pynq",
            opset_imports=[self.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        self.helper.set_model_props(model, properties)
        self.onnx.checker.check_model(model, full_check=True)
        return model


def onnx_model(
    coef: NDArray[np.float64],
    intercept: NDArray[np.float64],
    classes: NDArray | None,
    dtype: str,
    link: str | None,
    properties: dict[str, str],
) -> Any:
    """The graph of a model; :meth:`zipml_pynq.learn.models.LinearModel.to_onnx` tells of it.

    Parameters
    ----------
    coef : ndarray, shape (models, columns)
    intercept : ndarray, shape (models,)
    classes : ndarray, shape (classes,), or None
        None: regression.
    dtype : str
        "float32" or "float64".
    link : str or None
        What makes probabilities of decision functions: "sigmoid", of each class against the rest,
        or "softmax"; None: scores come out.
    properties : dict
        What the file tells of the model.
    """
    graph = _Graph(dtype)
    graph.constants |= {"coef": coef.T.copy(), "intercept": intercept}
    graph.node("Cast", "X", "samples", to=graph.types.DOUBLE)
    graph.node("Gemm", "samples coef intercept", "z")
    if classes is None and len(intercept) > 1:
        graph.number("prediction", "z", ["N", len(intercept)])
    elif classes is None:
        graph.constants["last"] = np.array([1])
        graph.node("Squeeze", "z last", "column")
        graph.number("prediction", "column", ["N"])
    else:
        _classify(graph, _stored(classes), len(intercept), link)
    return graph.model(coef.shape[1], properties)


def _stored(classes: NDArray) -> NDArray:
    """Classes as the graph holds them: whole numbers as int64, others as float64, or text."""
    if classes.dtype.kind in "biu":
        return classes.astype(np.int64)
    if classes.dtype.kind == "f":
        whole = (classes == np.rint(classes)).all()
        return classes.astype(np.int64 if whole else np.float64)
    return classes


def _classify(graph: _Graph, classes: NDArray, models: int, link: str | None) -> None:
    """From decision functions ``z`` to labels, and probabilities or scores."""
    graph.constants["classes"] = classes
    if models == 1:
        # one model: is it above 0?
        graph.constants |= {"zero": np.zeros(1), "last": np.array([1])}
        graph.node("Greater", "z zero", "above")
        graph.node("Cast", "above", "number", to=graph.types.INT64)
        graph.node("Squeeze", "number last", "index")
        graph.node("Neg", "z", "opposite")
        graph.node("Concat", "opposite z", "pair", axis=1)
        graph.node("Sigmoid", "pair", "p")
    elif link == "softmax":
        graph.node("ArgMax", "z", "index", axis=1, keepdims=0)
        graph.node("Softmax", "z", "p", axis=1)
    else:
        # sigmoids over their sum are the softmax of their logarithms, which do not all
        # vanish: log(sigmoid(z)) = min(z, 0) - log(1 + exp(-|z|))
        graph.constants |= {"zero": np.zeros(1), "one": np.ones(1)}
        graph.node("ArgMax", "z", "index", axis=1, keepdims=0)
        graph.node("Min", "z zero", "low")
        graph.node("Abs", "z", "size")
        graph.node("Neg", "size", "minus_size")
        graph.node("Exp", "minus_size", "power")
        graph.node("Add", "power one", "sum")
        graph.node("Log", "sum", "rest")
        graph.node("Sub", "low rest", "logarithm")
        graph.node("Softmax", "logarithm", "p", axis=1)
    graph.node("Gather", "classes index", "label")
    text = classes.dtype.kind == "U"
    label = graph.types.STRING if text else graph.helper.np_dtype_to_tensor_dtype(classes.dtype)
    graph.output("label", ["N"], label)
    if link is not None:
        graph.number("probabilities", "p", ["N", len(classes)])
    else:
        graph.number("scores", "z", ["N", models])
