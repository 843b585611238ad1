"""docs/doctor.md, made from the rules themselves."""

from __future__ import annotations

from fovea.diagnosis.rule import Rule
from fovea.diagnosis.rules import RULES

_STAGES = {
    "data": ("Images and labels", "How they are prepared, ordered, counted."),
    "settings": ("Net, loss and settings", "What is trained, how, and what decides."),
    "batch": ("Single batches", "What a forward and a backward pass show."),
    "curve": ("Learning curves", "What the epochs show."),
    "evaluation": ("Final figures", "What held-back images show."),
    "program": ("Programs", "What a program says literally."),
}


def rules_as_markdown() -> str:
    """Every rule by stage: id, cause, severity, when it speaks, where it must be silent, where it comes from."""
    by_stage: dict[str, list[Rule]] = {stage: [] for stage in _STAGES}
    for rule in RULES.values():
        by_stage[rule.stage].append(rule)
    parts = []
    for stage, (title, line) in _STAGES.items():
        rows = [_row(rule) for rule in by_stage[stage]]
        head = "| id | cause | severity | speaks when | silent for | source |\n|---|---|---|---|---|---|"
        parts.append("\n".join([f"## {title}", "", line, "", head, *rows]))
    return "\n\n".join(parts) + "\n"


def _row(rule: Rule) -> str:
    cells = (f"`{rule.id}`", rule.title, rule.severity, rule.threshold, rule.traps, rule.source)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def rewritten(page: str) -> str:
    """A page whose text before the first heading of a stage stays, and whose tables are made anew."""
    first = f"## {next(iter(_STAGES.values()))[0]}\n"
    return page.split(first)[0] + rules_as_markdown()


if __name__ == "__main__":
    import sys
    from pathlib import Path

    target = Path(sys.argv[1])
    target.write_text(rewritten(target.read_text(encoding="utf-8")), encoding="utf-8")
