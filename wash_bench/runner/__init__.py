"""From a configuration to finished cells.

In the order in which a run passes through it:

- ``context``: how a run is carried out (folder, processes, threads, observer); no result depends
  on it.
- ``setting``: device, data and networks of a training configuration.
- ``task``: a training task, the unit of work: one training with all the cells that read it.
- ``experiment``: cells as training tasks, and the call that runs a list of cells.
- ``queue``: which tasks are open, and what became of their cells.
- ``jobs``: how many trainings side by side fill the machine (``--jobs auto``).
- ``pool``: works tasks off in this process, or in a pool of processes (``--jobs``).
- ``worker``: works them off beside other workers on one run folder (``--worker``).
- ``perform``: carries out one task: its training, its evaluation, its records.
- ``trainer``: the training of a task, resumed from its last checkpoint.
- ``evaluation``: what is measured on the trained population.
- ``progress``: what an observer is told meanwhile.
- ``units``: counts, bytes and durations in words.
- ``plan``: what all this will cost, without training.
"""
