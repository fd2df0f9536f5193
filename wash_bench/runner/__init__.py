"""From a configuration to finished cells.

In the order in which a run passes through it:

- ``context``: how a run is carried out (folder, processes, threads, observer); no result depends
  on it.
- ``experiment``: builds the training tasks of a run, and ``run_cells`` runs the unfinished ones.
- ``task``: a training task, the unit of work: one training with all the cells that read it.
- ``queue``: which tasks are open and free, what became of their cells, and the lock of one.
- ``jobs`` and ``pool``: how many tasks side by side fill the machine, in processes (``--jobs``).
- ``setting``: device, data and networks of a training configuration, and its checks.
- ``perform``: trains one task or resumes it, evaluates it, and writes the records of its cells.
- ``trainer``: the training of a task, resumed from its last checkpoint.
- ``evaluation``: what is measured on the trained population; ``student`` trains for a merge rule.
- ``machine``, ``isolation``, ``time_limit``, ``allocator``: errors of the machine, the state of
  torch between tasks, how long a task may take, and how memory is kept.
- ``progress`` and ``units``: what an observer sees meanwhile, and numbers in words.
- ``plan``: what all this will cost; ``verify`` and ``recorded``: whether records come out again.
"""
