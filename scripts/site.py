"""What ``mkdocs build`` needs besides docs/: pages from elsewhere, the methods', links, formulas.

A page keeps the links that it has in the repository. Here those to other pages of the site become
links inside it, and those to other files lead to the repository. Formulas become MathML, which
browsers show without a script.
"""

from __future__ import annotations

import html
import inspect
import os
import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File

from wash_bench.core.method import KINDS
from wash_bench.plugins.options import as_typed
from wash_bench.plugins.registry import describe, find_method, method_names

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Homepage"]
# A Markdown link or picture, up to its title.
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
# A formula as pymdownx.arithmatex leaves it.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
ARXIV = re.compile(r"(?<![\[/])\barXiv (\d{4}\.\d{4,5})")
BADGE = re.compile(r"\[!\[[^\]]*\]\(https:[^)]*\)\]\([^)]*\) ?")  # the site fetches nothing
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
FOLDERS = ("results", "benchmarks")


def of_repository() -> dict[str, str]:
    """The site's files by the repository's, docs/ and those of the methods left out."""
    found = dict(MOVED)
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            name = path.relative_to(ROOT).as_posix()
            if path.suffix in (".md", ".png") and not name.startswith("results/records/"):
                found[name] = name
    return found


def of_docs() -> list[str]:
    """The files of docs/, from there."""
    docs = ROOT / "docs"
    return [path.relative_to(docs).as_posix() for path in docs.rglob("*") if path.is_file()]


def of_methods() -> dict[str, str]:
    """The methods' names by their modules, ``methods/wash.py``."""
    found = {}
    for name in method_names():
        module = find_method(name).target.partition(":")[0]
        found[f"methods/{module.rpartition('.')[2]}.py"] = name
    return found


METHODS = of_methods()
PAGES = of_repository() | {module: f"methods/{name}.md" for module, name in METHODS.items()}
SOURCES = {target: source for source, target in PAGES.items()}
# What a link may name: those, the folder of the methods, and the pages of docs/.
KNOWN = PAGES | {"methods": "methods.md"}
KNOWN |= {f"docs/{name}": name for name in of_docs()}


def on_config(config: Any) -> Any:
    """Put the methods' pages, by kind, into the navigation."""
    config["repo_url"] = REPOSITORY
    (methods,) = (entry["Methods"] for entry in config["nav"] if "Methods" in entry)
    for kind, heading in KINDS.items():
        pages = [f"methods/{name}.md" for name in method_names(kind) if name in METHODS.values()]
        methods.append({heading[0].upper() + heading[1:]: pages})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs/."""
    for source, target in PAGES.items():
        if name := METHODS.get(source):
            files.append(File.generated(config, target, content=page_of(name, source)))
        else:
            files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def page_of(name: str, module: str) -> str:
    """A method's page: its rule, source, docstring, options and code."""
    method = describe(find_method(name))
    text = inspect.getdoc(import_module(method.target.partition(":")[0])) or ""
    title, _, algorithm = text.partition("\n")
    lines = [
        f"# {name}\n\n{linked(title)}\n",
        f"- **rule**: {method.rule}\n- **kind**: {method.kind}\n"
        f"- **source**: {linked(method.paper)}\n"
        f"- **when**: {method.when}\n- **needs**: {method.needs or 'nothing else'}\n"
        f"- **what a member sends**: {method.sends}\n- **code**: [`{module}`]({at(module)})\n",
        f"```bash\nwash-bench run digits --methods {typical(name, method.kind)}\n```\n",
        f"## The algorithm\n{linked(algorithm)}\n",
    ]
    if method.options:
        lines += ["## Options\n", "| option | default | allowed | meaning |\n|---|---|---|---|"]
        for option in method.options:
            cells = (
                f"`{name}.{option.name}`", as_typed(option.default), option.allowed, option.meaning
            )  # fmt: skip
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    code = (ROOT / module).read_text(encoding="utf-8")
    lines += ["\n## The module\n", f"```python\n{code}```\n"]
    return "\n".join(lines)


def linked(text: str) -> str:
    """Lead the arXiv numbers of a text to their abstracts."""
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def typical(name: str, kind: str) -> str:
    """A method as it is asked for: what works around a training rule, with one."""
    return name if kind == "training" else f"papa+{name}"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead a page's links to the site's pages, or to the repository."""
    here = page.file.src_uri
    source = SOURCES.get(here, f"docs/{here}")

    def led(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = os.path.normpath(Path(source).parent / target).replace(os.sep, "/")
        return f"{match[1]}{to_page(path, here) or at(path)}{match[3] or ''}{match[4]}"

    return LINK.sub(led, BADGE.sub("", markdown))


def on_page_content(text: str, **_: Any) -> str:
    """Write a page's formulas as MathML."""

    def mathml(match: re.Match[str]) -> str:
        display = "block" if match[2] == "[" else "inline"
        return convert(html.unescape(match[3]), display=display)

    return FORMULA.sub(mathml, text)


def to_page(path: str, here: str) -> str:
    """From a page to that of a file of the repository; "" if it has none, or is not there."""
    for name in (path, f"{path}/README.md"):
        if target := KNOWN.get(name):
            return os.path.relpath(target, Path(here).parent).replace(os.sep, "/")
    # What is not there is left to mkdocs, which complains.
    return "" if (ROOT / path).exists() else path


def at(path: str) -> str:
    """Where the repository shows a file or a folder."""
    return f"{REPOSITORY}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"
