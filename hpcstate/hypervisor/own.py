"""The XML of an object that is there, changed where it has to be: what people made of it stays. Pure."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from hpcstate.hypervisor.mark import NAMESPACE, PREFIX, Mark


def keeping_names(rendered: str, defined: str) -> str:
    """The domain XML ``rendered`` with what people may have changed of the one that is ``defined``: its name,
    title and description, and the metadata of other programs.

    libvirt takes another name under the same UUID for a mistake. Its autostart is no part of the XML.
    """
    ElementTree.register_namespace(PREFIX, NAMESPACE)
    new, old = ElementTree.fromstring(rendered), ElementTree.fromstring(defined)
    for tag in ("name", "title", "description"):
        _replace(new, tag, old.find(tag))
    metadata = new.find("metadata")
    for element in old.iterfind("metadata/*"):
        if not element.tag.startswith(f"{{{NAMESPACE}}}"):
            if metadata is None:
                metadata = ElementTree.SubElement(new, "metadata")
            metadata.append(element)
    return ElementTree.tostring(new, encoding="unicode")


def with_mark(defined: str, mark: Mark) -> str:
    """The XML ``defined`` of a domain or network, with ``mark`` in the place of another one or of none."""
    ElementTree.register_namespace(PREFIX, NAMESPACE)
    root = ElementTree.fromstring(defined)
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ElementTree.SubElement(root, "metadata")
    for element in [child for child in metadata if child.tag.startswith(f"{{{NAMESPACE}}}")]:
        metadata.remove(element)
    metadata.append(ElementTree.fromstring(mark.to_xml()))
    return ElementTree.tostring(root, encoding="unicode")


def _replace(root: Element, tag: str, wanted: Element | None) -> None:
    there = root.find(tag)
    if there is not None:
        root.remove(there)
    if wanted is not None:
        root.insert(0, wanted)


_BEFORE_NAMESPACE = "urn:hpcstate:disk-before"
_BEFORE = f"{{{_BEFORE_NAMESPACE}}}disk"


def with_disk_before(xml: str, volume: str) -> str:
    """The domain ``xml`` which says that the node had the disk ``volume`` before, until the one that it has
    now has passed; an empty one takes that back."""
    ElementTree.register_namespace(PREFIX, NAMESPACE)
    ElementTree.register_namespace(f"{PREFIX}-disk", _BEFORE_NAMESPACE)
    root = ElementTree.fromstring(xml)
    metadata = root.find("metadata")
    if metadata is None:
        metadata = ElementTree.SubElement(root, "metadata")
    for element in metadata.findall(_BEFORE):
        metadata.remove(element)
    if volume:
        ElementTree.SubElement(metadata, _BEFORE, volume=volume)
    return ElementTree.tostring(root, encoding="unicode")


def disk_before(xml: str) -> str:
    """The disk that the node had before, as :func:`with_disk_before` wrote it; empty when there is none."""
    element = ElementTree.fromstring(xml).find(f"metadata/{_BEFORE}")
    return "" if element is None else element.get("volume", "")
