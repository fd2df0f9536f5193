"""Networks in and out: those of records, those that were trained elsewhere, and timm's folders.

``found`` reads what a file or folder says about its network, ``inputs`` puts that together with
the user's options; ``stored`` makes the networks of a cell. ``score`` measures one network,
``timm_folder`` and ``card`` write one for timm. ``merge`` treats networks as a population whose
training is over, and leaves the rest to the runner; ``rows`` lists its members and merges.
"""
