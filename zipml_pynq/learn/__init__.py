"""What a user of scikit-learn meets.

| module | what is decided there |
|---|---|
| ``regressor``, ``classifier`` | the two estimators |
| ``parameters`` | what they can be told |
| ``preparation`` | from what ``fit`` is given to packed samples on a device |
| ``problem``, ``estimator`` | the models to train, and their training |
| ``refining``, ``multinomial`` | their refinement, of classes together too |
| ``side_by_side`` | models that are trained at a time, from the same draws |
| ``streaming``, ``stream`` | ``partial_fit``: ranges that grow, models that are carried over |
| ``objective``, ``distance`` | when training stops, and how far from the optimum |
| ``models``, ``model_files``, ``onnx_graph`` | a fitted model by itself, as a file, as ONNX |
| ``sklearn`` | what is taken from scikit-learn |
"""
