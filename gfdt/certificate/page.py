"""A certificate as one HTML file: no script, no link to anything, every text escaped, pictures inside as PNG."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from gfdt._version import __version__
from gfdt.certificate.report import Certificate
from gfdt.diagnostics.verdict import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["page"]

_DPI = 110

_STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; color: #222; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .3em .8em; }
tr { border-bottom: 1px solid #eee; } img { max-width: 100%; height: auto; }
.green, .amber, .red { font-weight: bold; padding: .1em .5em; border-radius: .3em; white-space: nowrap; }
.green { background: #009E73; color: #fff; } .amber { background: #E69F00; color: #000; }
.red { background: #B34700; color: #fff; } li { margin: .4em 0; } .small { color: #555; font-size: .9em; }
"""


def page(certificate: Certificate) -> str:
    """Return the HTML text of a certificate."""
    where = (
        "the record the score was fitted on" if certificate.in_sample else "a record not identical to that of the fit"
    )
    drawn = f"{certificate.n_samples} samples against {certificate.n_states} states; " if certificate.n_samples else ""
    parts = [
        f"<h1>Score certificate {_badge(certificate.verdict)}</h1>",
        f"<p>{escape(certificate.label)} score, judged on {where}; {escape(drawn)}errors from "
        f"{escape(certificate.resampling)}.</p>",
        _reasons(certificate.reasons),
        _picture(_figure(certificate), "density, spectrum, distances and likelihood by noise level"),
    ]
    for title, findings in certificate.sections.items():
        parts += [f"<h2>{escape(title)}</h2>", _table(findings)]
        if title == "identities":
            parts.append(_picture(_check_figure(certificate), "the identities of an exact score"))
    if "example" in certificate.pictures:
        parts += ["<h2>states</h2>", _picture(_states_figure(certificate), "states of the record, and samples")]
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>score certificate: '
        f"{escape(certificate.verdict)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n"
        f'<p class="small">gfdt {escape(__version__)}</p></body></html>\n'
    )


def _badge(verdict: str) -> str:
    return f'<span class="{escape(verdict)}">{escape(verdict)}</span>'


def _reasons(reasons: tuple[str, ...]) -> str:
    if not reasons:
        return "<p>Nothing speaks against it.</p>"
    return "<ul>" + "".join(f"<li>{escape(reason)}</li>" for reason in reasons) + "</ul>"


def _table(findings: tuple[Finding, ...]) -> str:
    rows = "".join(
        f"<tr><td>{_badge(item.verdict)}</td><td>{escape(item.check)}</td><td>{escape(item.text)}</td></tr>"
        for item in findings
    )
    return f"<table>{rows}</table>"


def _picture(figure: Figure, text: str) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI)
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return f'<p><img alt="{escape(text)}" src="data:image/png;base64,{data}"></p>'


def _figure(certificate: Certificate) -> Figure:
    from matplotlib.figure import Figure

    return certificate.plot(Figure(figsize=(13, 7.5), layout="constrained"))


def _check_figure(certificate: Certificate) -> Figure:
    from matplotlib.figure import Figure

    return certificate.identities.plot(Figure(figsize=(10, 7), layout="constrained"))


def _states_figure(certificate: Certificate) -> Figure:
    from gfdt.plotting.certificate import plot_examples

    return plot_examples(certificate)
