"""Class folders whose images were decoded once: ``wash-bench prepare`` writes, ``folder`` reads.

``index`` says what a prepared folder holds (imports nothing heavy), ``shards`` reads its images,
``encode`` writes one shard of them, in the processes of ``data.prepare``.

A prepared folder has for each part, train and val, files PART-NNNNN.pixels of a thousand images:
(height, width, 3) uint8, row by row, one after another. PART.npy has a row (height, width, label)
of int32 for each image, in the order of the class folders. prepared.json comes last.
"""
