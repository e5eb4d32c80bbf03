"""Which code makes an artifact: the modules that its maker uses, followed through the source.

Code counts by what it does: a comment, a docstring or another line break is no other code.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hpcstate import paths
from hpcstate.artifact.comments import meaning
from hpcstate.digest import file_digest
from hpcstate.errors import HpcstateError

LEFT_OUT = {
    "hpcstate.errors": "says what went wrong: then there is no artifact",
    "hpcstate.terminal": "says what goes on",
    "hpcstate.paths": "says where an artifact lies: it is the same one elsewhere",
    "hpcstate.run": "starts the programs that a maker names, with the words and variables that it gives",
    "hpcstate.digest": "makes the keys themselves: another way to make them gives other keys",
    "hpcstate.yaml_files": "reads declarations: what they say is in the keys",
    "hpcstate.artifact.comments": "makes the keys, as hpcstate.digest does",
    "hpcstate.artifact.recipe": "puts what a maker made where it belongs",
    "hpcstate.artifact.store": "keeps bytes, which are compared with their digest",
    "hpcstate.artifact.cache": "removes what was not used for longest",
    "hpcstate.artifact.imports": "finds the code",
    "hpcstate.container.dockerfile_needs": "says what an engine lacks, and changes nothing of a build",
    "hpcstate.host": "finds programs, packages and mirrors: what is fetched has its digest in the keys",
    "hpcstate.node": "writes files of nodes: those that an image has are in its key as text, and seal.sh"
    " removes the way into the machine that Packer boots",
}
"""What does not count as code of an artifact, a module or a whole room, nor what only that uses, and why: a
change there makes no other artifact. hpcstate.files is not among it: it unpacks the trees."""

DEPLOYED = ("deploys", "operations", "facts", "hpcstate.probe", "hpcstate.programs")
"""Where the code of a deploy lies. What else it asks of hpcstate is in the image's key as rendered text."""

SHOWS_ONLY = {
    "facts.arguments": "refuses arguments: then nothing is asked",
    "operations.util.arguments": "refuses arguments: then nothing is changed",
    "operations.util.difference": "shows what a change makes of a file, and changes nothing",
}
"""What of DEPLOYED does not count, and why."""

_NAME = re.compile(r"[\w./-]{1,200}", re.ASCII)


@dataclass(frozen=True)
class _Source:
    """A Python file: the sha256 of what it does, what it imports (module, and name or nothing), and every
    text in it that could be the name of a file or module."""

    digest: str
    imported: frozenset[tuple[str, str]]
    texts: frozenset[str]


def code_of(*modules: str) -> dict[str, str]:
    """The code by which ``modules`` (``hpcstate.image.seed``) make something: a digest for each file, by its
    path below the project's root. It belongs to the inputs of what they make.
    """
    starts = [paths.ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in modules]
    return digests(imported_files(starts, paths.ROOT, ("hpcstate",), LEFT_OUT), paths.ROOT)


def imported_files(
    starts: Iterable[Path], root: Path, packages: Collection[str], left_out: Collection[str] = ()
) -> list[Path]:
    """``starts`` and what they use of ``packages`` (dotted, below ``root``), directly or not: modules that
    they import or run by name (``python -m``), and files beside them whose names they have (a table, a
    program). Neither ``left_out`` nor what only that uses.

    Reads the source (ast), so that nothing is executed. Raises FileNotFoundError when a start is missing,
    and HpcstateError for a file that is no Python.
    """
    found: set[Path] = set()
    waiting = list(starts)
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".py":
            modules = _modules(_read(path), root)
            waiting += [
                file for name, file in modules if _is_in(name, packages) and not _is_in(name, left_out)
            ]
            waiting += [path.with_name(text) for text in _read(path).texts if _is_beside(path, text)]
    return sorted(found)


def digests(files: Iterable[Path], root: Path) -> dict[str, str]:
    """A digest for each of ``files``, by its path below ``root``: of what a program does (Python, shell, HCL;
    hpcstate.artifact.comments), else of the bytes.
    """
    return {path.relative_to(root).as_posix(): _digest(path) for path in sorted(set(files))}


def _digest(path: Path) -> str:
    if path.suffix == ".py":
        return _read(path).digest
    if path.suffix in (".sh", ".hcl"):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        return hashlib.sha256(meaning(text, path.name).encode("utf-8", errors="surrogateescape")).hexdigest()
    return file_digest(path)


def _is_in(name: str, packages: Collection[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _is_beside(path: Path, text: str) -> bool:
    """Whether ``text`` is the name of a file beside the module ``path``: `with_name("probe.sh")`."""
    return "/" not in text and "." in text.strip(".") and path.with_name(text).is_file()


def _modules(source: _Source, root: Path) -> Iterator[tuple[str, Path]]:
    """The modules that ``source`` names, by name and file. A name that a package offers is followed to its
    ``__init__``; a module of it is that module alone.
    """
    for module, name in source.imported:
        if name and (file := _file(f"{module}.{name}", root)):
            yield f"{module}.{name}", file
        elif file := _file(module, root):
            yield module, file
    for text in source.texts:
        dotted = text.removesuffix(".py").replace("/", ".")
        if "." in dotted and dotted.replace(".", "").isidentifier() and (file := _file(dotted, root)):
            yield dotted, file


def _file(module: str, root: Path) -> Path | None:
    at = root.joinpath(*module.split("."))
    return next((file for file in (at.with_suffix(".py"), at / "__init__.py") if file.is_file()), None)


@cache
def _read(path: Path) -> _Source:
    """``path`` as it was when it was read first: this process goes on with the code that it began with."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        raise HpcstateError(
            f"this is no Python: {error}", where=paths.shown(path), hint="an artifact is made by this code"
        ) from error
    imported: set[tuple[str, str]] = set()
    texts: set[str] = set()
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            imported |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported |= {(node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Constant) and _NAME.fullmatch(str(node.value)):
            texts.add(str(node.value))
    digest = hashlib.sha256(_meaning(tree).encode("utf-8", errors="surrogatepass")).hexdigest()
    return _Source(digest, frozenset(imported), frozenset(texts))


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and all below it, without docstrings and without what only a type checker imports."""
    yield node
    for child in ast.iter_child_nodes(node):
        only_types = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not only_types and not _is_text(child):
            yield from _nodes(child)


def _is_text(node: object) -> bool:
    """Whether ``node`` is a docstring, of a module, function, class or value."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _meaning(value: object) -> str:
    """The syntax tree ``value`` as text, without docstrings. What is empty is left out: versions of Python
    differ in which empty fields a tree has, not in the others.
    """
    if isinstance(value, ast.Constant):
        return f"{value.value!r}"
    if isinstance(value, ast.AST):
        fields = (
            (name, given) for name, given in ast.iter_fields(value) if name not in ("ctx", "type_comment")
        )
        inside = ",".join(f"{name}={_meaning(given)}" for name, given in fields if given not in (None, []))
        return f"{type(value).__name__}({inside})"
    if isinstance(value, list):
        return f"[{','.join(_meaning(item) for item in value if not _is_text(item))}]"
    return repr(value)
