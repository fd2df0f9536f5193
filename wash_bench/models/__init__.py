"""Networks: any timm architecture, with the papers' stems for small images.

``names`` knows them without timm, ``build`` makes one, ``stems`` its form for small images;
``check`` refuses what cannot be trained. ``head`` finds the classifier, ``init_checkpoint`` reads
the weights that members start from.
"""
