"""A fingerprint of the code that a step's output depends on.

Snakemake does not see a change in an imported module. So each rule carries, as a param, a hash over the syntax trees of
the step's module and of the project modules that it imports, without comments and docstrings: a comment recomputes
nothing, a changed mel filter recomputes the acoustic features and what follows.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "model")

# These carry values from place to place and change none; `store.FORMAT` counts the changes of the file format instead.
INFRASTRUCTURE = frozenset(
    {
        "pipeline",
        "model",
        "pipeline.__main__",
        "model.__main__",
        "pipeline.commands",
        "pipeline.errors",
        "pipeline.fingerprint",
        "pipeline.kept",
        "pipeline.progress",
        "pipeline.store",
    }
)


@cache
def fingerprint(*modules: str) -> str:
    """Hash (16 hex digits) of the code of `modules` and of every project module that they import, at any depth.

    Raises ModuleNotFoundError where a name is no module of this project.
    """
    names: set[str] = set()
    for module in modules:
        _path_of(module)
        _collect(module, names)
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\n{_canonical(name)}\n".encode())
    return digest.hexdigest()[:16]


def _collect(module: str, seen: set[str]) -> None:
    if module in seen or module in INFRASTRUCTURE:
        return
    seen.add(module)
    for imported in _imports(module):
        _collect(imported, seen)


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Project modules that `module` imports by statement, at its top or inside its functions."""
    package = module if _path_of(module).name == "__init__.py" else module.rpartition(".")[0]
    found: list[str] = []
    for node in ast.walk(ast.parse(_path_of(module).read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join(parents + ([base] if base else []))
            found.append(base)
            found += [f"{base}.{alias.name}" for alias in node.names]
    return tuple(dict.fromkeys(name for name in found if name.split(".")[0] in PACKAGES and _exists(name)))


@cache
def _canonical(module: str) -> str:
    """The module's syntax tree as text: free of comments, docstrings, layout and line numbers."""
    tree = ast.parse(_path_of(module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(getattr(body[0], "value", None), ast.Constant):
                node.body = body[1:] if isinstance(body[0].value.value, str) else body
    return ast.dump(tree)


def _exists(module: str) -> bool:
    try:
        _path_of(module)
    except ModuleNotFoundError:
        return False
    return True


def _path_of(module: str) -> Path:
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"{module} is no module of this project (looked below {ROOT})")
