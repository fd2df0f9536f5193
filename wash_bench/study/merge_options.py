"""Which settings ``wash-bench merge`` takes. Its help reads this, so nothing is imported."""

OF_MERGE = (
    *("dataset", "model", "data_dir", "classes", "train_limit", "val_share", "image_size", "mean"),
    *("std", "interpolation", "crop_pct", "stem", "model_arg", "barrier_points", "barrier_split"),
    *("barrier_images", "barrier_bn_images", "bn_images", "ece_bins", "simplex_points"),
    *("simplex_margin", "corruptions", "corruption_severities", "corruption_images"),
    *("corruption_dir", "device", "amp"),
)
"""Keys of the settings of the configuration that ``wash-bench merge`` takes, methods left out."""
