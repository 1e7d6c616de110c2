"""Our pages between Flower's own: its templates, ours, and one more entry in its navigation."""

from __future__ import annotations

from pathlib import Path

from tornado.template import Loader, Template

__all__ = ["Templates"]

_OURS = Path(__file__).parent / "templates"
#: Flower's navigation is one template; the first list in it is that of its pages.
_NAVIGATION, _END_OF_LIST = "navbar.html", "</ul>"
_ENTRY = """<li class="nav-item">
<a class="nav-link{% if active_tab == 'actors' %} active{% end %}"
 href="{{ reverse_url('actors') }}"
 {% if active_tab == 'actors' %}aria-current="page"{% end %}>Actors</a></li>"""


class Templates(Loader):
    """Finds ours first, then Flower's; adds the Actors page to Flower's navigation."""

    def _create_template(self, name: str) -> Template:
        ours = _OURS / Path(name).name
        if ours.is_file():
            return Template(ours.read_text(encoding="utf-8"), name=name, loader=self)
        if name != _NAVIGATION:
            return super()._create_template(name)
        text = (Path(self.root) / name).read_text(encoding="utf-8")
        return Template(_with_entry(text), name=name, loader=self)


def _with_entry(text: str) -> str:
    """Return the navigation with our entry; as it is where it has no list any more."""
    before, end, after = text.partition(_END_OF_LIST)
    return before + _ENTRY + end + after if end else text
