"""What a run is, whatever it runs on.

| module | what is decided there |
|---|---|
| ``plan``, ``make_plan`` | a run's plan, and its defaults |
| ``defaults`` | what estimators and ``driver.train`` have in common |
| ``losses`` | losses and their derivatives on chip |
| ``step`` | the step |
| ``ranges`` | the ranges of a quantized model and gradient |
| ``schedule``, ``extent`` | cycles, words and sizes of a run |
| ``softmax`` | the loss of several classes together |
| ``refinement``, ``exact_rows`` | how a few-bit model gets to the true optimum, and the true sums |
| ``few_rows`` | changes of refinement from few rows at full precision |
| ``divergence`` | whether a run went wrong |
| ``variance`` | how much noise quantization adds, and bits that keep it small |
| ``result`` | what a run begins with and hands back |
| ``host``, ``row_scaling``, ``proximal``, ``sketch`` | methods of the paper that run on the host |
| ``reference``, ``baseline`` | the bits from the formulas, and full precision |
"""
