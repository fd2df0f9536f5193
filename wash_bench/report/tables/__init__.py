"""The tables, their captions and notes, as Markdown, LaTeX and text."""
