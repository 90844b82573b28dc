"""What MkDocs does beside its own: pages from elsewhere, generated parts, the reference, a check."""

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.hooks import links, parts, reference, repository

log = logging.getLogger("mkdocs.hooks.pages")

_GENERATED = re.compile(r"<!-- generated: (\w+) -->")
_CODE = re.compile(r"<a\b.*?</a>|<h\d\b.*?</h\d>|<pre\b.*?</pre>|<code>(\w+)</code>", re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Puts the public names into the menu, below its entry for the reference."""
    for entry in config.nav:
        if entry.get("API reference") == reference.INDEX:
            entry["API reference"] = reference.menu()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in `docs`."""
    for path, place in repository.pages().items():
        if path.startswith(repository.DOCS):
            continue
        text, pictures = repository.contents(path)
        files.append(File.generated(config, place, content=text))
        for name, picture in pictures.items():
            files.append(File.generated(config, posixpath.join(posixpath.dirname(place), name), content=picture))
    files.append(File.generated(config, reference.INDEX, content=reference.index()))
    for name in reference.names():
        files.append(File.generated(config, name.page, content=name.text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills in what is generated, and turns links to files of the repository into links to pages."""
    places = repository.pages()
    path = {place: path for path, place in places.items()}.get(page.file.src_uri)
    if path is None:
        return markdown
    markdown, lost = repository.follow_links(markdown, path, places)
    for target in lost:
        log.warning(f"{path} links to {target}, which is not on the site; add it to docs/hooks/repository.py.")
    return _GENERATED.sub(lambda match: parts.PARTS[match[1]](), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes a public name that stands as code in a sentence a link to its page.

    Plain words, such as `train`, mean other things as well, and stay as they are.
    """
    places = {name.name: name.page for name in reference.names() if "_" in name.name or not name.name.islower()}

    def linked(match):
        place = places.get(match[1])
        if place is None or place == page.file.src_uri:
            return match[0]
        return f'<a href="{files.get_file_from_path(place).url_relative_to(page.file)}">{match[0]}</a>'

    return _CODE.sub(linked, html)


def on_post_build(config: MkDocsConfig) -> None:
    """Warns of every dead link of the site and of everything that would be fetched from elsewhere."""
    for fault in links.faults(Path(config.site_dir)):
        log.warning(fault)
