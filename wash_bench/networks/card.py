"""The model card of an exported network: what it is, what it scores, how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wash_bench import __version__
from wash_bench.metrics import METRICS

# Score -> the metric whose unit and digits it has, and its name here.
_SCORES = {
    "acc": ("average_acc", "accuracy"),
    "nll": ("average_nll", "loss"),
    "ece": ("average_ece", "expected calibration error"),
    "brier": ("average_brier", "Brier score"),
}


def card(
    config: Mapping[str, Any],
    *,
    about: str,
    scores: Mapping[str, float],
    commands: Sequence[str],
    notes: Sequence[str] = (),
    stem: str = "",
) -> str:
    """The text of ``README.md``.

    Args:
        config: the content of ``config.json``.
        about: what network it is, in words.
        scores: on test data.
        commands: that made and measure it.
        notes: sentences on where timm may see other images.
        stem: lines of Python that change timm's ``model`` into this one; empty where timm builds
            it by name.

    Returns:
        Markdown, with a head that the Hugging Face hub reads.
    """
    name, pictures = config["architecture"], config["pretrained_cfg"]
    training = config["wash_bench"]["training"]
    channels, size, _ = pictures["input_size"]
    rows = [f"| {title} | {score} |" for title, score in told(scores)]
    parts = [
        "---\nlibrary_name: timm\npipeline_tag: image-classification\ntags:\n- timm\n"
        "- weight-averaging\n---",
        f"# {name}, {config['num_classes']} classes",
        f"{about[0].upper()}{about[1:]}; trained or merged on the data set {training['dataset']}.",
        "Scores on its test data:\n\n| | |\n|---|---:|\n" + "\n".join(rows),
        f"Images: {size} x {size} pixels, {channels} channel{'s' if channels > 1 else ''}, crop "
        f"{pictures['crop_pct']:g} of the resized picture, {pictures['interpolation']}; mean "
        f"{_numbers(pictures['mean'])}, standard deviation {_numbers(pictures['std'])}.",
        *notes,
        "## Loading it",
        f"```python\n{_loading(config, stem)}\n```",
        "## How it was made",
        "```bash\n" + "\n".join(commands) + "\n```",
        f"By wash-bench {__version__}.",
    ]
    return "\n\n".join(parts) + "\n"


def told(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """The names of scores with their units, and the scores as reports write them."""
    rows = []
    for score, (key, title) in _SCORES.items():
        if score in scores:
            metric = METRICS[key]
            unit = f" ({metric.unit})" if metric.unit else ""
            rows.append((title + unit, f"{scores[score]:.{metric.digits}f}"))
    return rows


def _loading(config: Mapping[str, Any], stem: str) -> str:
    args = {"num_classes": config["num_classes"]} | config.get("model_args", {})
    given = "".join(f", {key}={value!r}" for key, value in args.items())
    name = config["architecture"]
    if stem:
        return (
            "# timm has no name for this stem: its own network is changed, and then filled.\n"
            "import timm\nfrom safetensors.torch import load_file\nfrom torch import nn\n\n"
            f"model = timm.create_model({name!r}{given})\n{stem}\n"
            'model.load_state_dict(load_file("model.safetensors"))\nmodel.eval()'
        )
    return (
        "import timm\n\n"
        'model = timm.create_model("local-dir:.", pretrained=True).eval()  # this folder\n'
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))\n\n"
        "# or, by name\n"
        f'model = timm.create_model({name!r}{given}, checkpoint_path="model.safetensors").eval()'
    )


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
