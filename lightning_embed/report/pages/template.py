"""Template of report.html, which holds everything that a browser needs."""

from html import escape
from string import Template

from lightning_embed.storage.names import visible

PAGE = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
  :root { color-scheme: light; --ink: #1a1a1a; --soft: #666; --line: #ddd; --wash: #f6f6f4 }
  body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 2.5rem auto; padding: 0 1rem }
  h1 { font-size: 1.6rem; margin: 0; overflow-wrap: anywhere }
  h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem }
  .headline { font-size: 1.2rem; max-width: 46rem }
  .note, figcaption { color: var(--soft); font-size: .9rem }
  td .note { font-size: .8rem }
  .wide { overflow-x: auto }
  table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem }
  th, td { padding: .25rem .8rem; text-align: right; white-space: nowrap }
  th:first-child, td:first-child { text-align: left; padding-left: 0 }
  thead th { border-bottom: 1px solid var(--ink); font-weight: 600; vertical-align: bottom; white-space: normal }
  tbody tr + tr td { border-top: 1px solid var(--line) }
  tbody th { font-weight: 400; font-style: italic; color: var(--soft); padding-top: .8rem }
  .best { font-weight: 700 }
  .panels { display: flex; flex-wrap: wrap; align-items: flex-start; gap: .5rem 1.5rem; margin: 1rem 0 }
  .panels svg { max-width: 100%; height: auto; flex: none }
  figure { margin: 1rem 0 } figure svg { max-width: 100%; height: auto }
  details { margin: .5rem 0 } summary { cursor: pointer }
  pre { background: var(--wash); padding: 1rem; overflow-x: auto; font-size: .8rem; line-height: 1.4 }
  @media (max-width: 40rem) {
    table { font-size: .85rem }
    th, td { padding: .25rem .4rem }
    td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 6rem }
  }
  @media print { body { margin: 0; max-width: none; font-size: 11pt } h2 { break-after: avoid } table, svg { break-inside: avoid } }
</style>
<h1>$title</h1>
$body
</html>
""")


def escaped(text: object) -> str:
    """HTML of a text from elsewhere, on one line."""
    return escape(visible(str(text)))


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table of HTML cells; a row of one cell is a heading for the rows below it."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join(f"<tr>{_cells(row, len(header))}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def details(title: str, content: str) -> str:
    """Preformatted HTML, folded under `title`."""
    return f"<details><summary>{title}</summary><pre>{content}</pre></details>"


def _cells(row: list[str], width: int) -> str:
    return f'<th colspan="{width}">{row[0]}</th>' if len(row) == 1 else "".join(f"<td>{cell}</td>" for cell in row)
