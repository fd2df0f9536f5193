"""A small paper table, and numbers published for it."""

from __future__ import annotations

_SCALE = """
[scale.NAME]
preset = "digits"
population = [2]
augment = ["homogeneous"]
seeds = [0]

[scale.NAME.settings]
train-limit = 64
epochs = 1
batch-size = 32
barrier-points = 3
barrier-images = 20
bn-images = 32
barrier-bn-images = 32
"""
TINY = (
    """
title = "Tiny"
about = "Two methods on a few digits."
papers = ["WASH"]
metrics = ["average_acc", "greedy_acc", "sent_vs_papa"]

[[row]]
label = "papa"
method = "papa"

[[row]]
label = "wash"
method = "wash"
set = { p = [0.1, 0.2] }

[[row]]
label = "naive-ensemble"
method = "naive-ensemble"

[[row]]
label = "greedy-soup"
method = "greedy-soup"
"""
    + _SCALE.replace("NAME", "paper")
    + _SCALE.replace("NAME", "small")
)
OWN = """paper,table,dataset,model,N,augment,method,metric,value,source
WASH,tiny,digits,test_resnet,2,homogeneous,wash p=0.1,average_acc,40.5,a made-up page
WASH,tiny,,,,,wash p=0.2,average_acc,30.5,a made-up page without N
"""
