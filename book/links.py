"""Links between files of the repository as links between pages of the book."""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms.post_transforms import SphinxPostTransform

ROOT = Path(__file__).resolve().parents[1]

STANDS_FOR = {
    "README.md": "index",
    "flower": "flower/README",
    "notebooks": "lessons",
    "notebooks/solutions": "solutions",
    "notebooks/teacher": "teachers",
}
"""What has no page of its own → the page that stands for it."""


class FilesWithoutPages(SphinxPostTransform):
    """A link to a folder leads to the page that stands for it; a link to a file of the repository
    that has no page becomes plain text. Anything else is left for Sphinx to warn of.
    """

    default_priority = 5  # before MyST looks for what its links lead to

    def run(self, **_) -> None:
        for node in list(self.document.findall(pending_xref)):
            if node["reftype"] != "myst" or node.get("refdomain") == "doc":
                continue
            here = ROOT / Path(self.env.doc2path(node["refdoc"], base=False)).parent
            file = (here / node["reftarget"].partition("#")[0]).resolve()
            if not file.exists() or not file.is_relative_to(ROOT):
                continue
            content = [child.deepcopy() for child in node.children]
            page = STANDS_FOR.get(file.relative_to(ROOT).as_posix())
            if page is None:
                node.replace_self(content)
                continue
            address = self.app.builder.get_relative_uri(self.env.docname, page)
            node.replace_self(nodes.reference("", "", *content, internal=True, refuri=address))


def setup(app) -> None:
    app.add_post_transform(FilesWithoutPages)
