"""What is measured on a trained population.

``evaluator`` runs network states on the data's splits, each once, and ``batchnorm`` re-estimates
their statistics; ``scores`` are functions of predictions. ``measure`` puts together all that cells
hold, ``barrier`` and ``simplex`` the networks between members. ``population_context`` is what a
method's merge rule may ask (``core.merge_context``), ``greedy`` the choice of the greedy soup.
"""
