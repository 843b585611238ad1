"""A report as one HTML page that needs no other file, no network and no script."""

from __future__ import annotations

from pathlib import Path

from fovea.reporting.blocks import Report

_TEMPLATES = Path(__file__).parent / "templates"


def render(report: Report) -> str:
    """The page. Every text is escaped; the page's own policy forbids scripts and addresses outside it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html").render(report=report)
