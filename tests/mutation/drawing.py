"""Draws mutations from cosmic-ray's operators: the same ones every time, and few that change nothing."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SALT = "aimc-sim"  # another one draws others
# One replacement an operator: the one that is hardest to notice.
OPERATORS = """
    NumberReplacer AddNot ZeroIterationForLoop ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr
    ReplaceOrWithAnd ReplaceBreakWithContinue ReplaceContinueWithBreak
    ReplaceBinaryOperator_Add_Sub ReplaceBinaryOperator_Sub_Add ReplaceBinaryOperator_Mul_Div
    ReplaceBinaryOperator_Div_Mul ReplaceBinaryOperator_FloorDiv_Mul ReplaceBinaryOperator_Pow_Mul
    ReplaceBinaryOperator_Mod_FloorDiv ReplaceBinaryOperator_BitAnd_BitOr ReplaceBinaryOperator_BitOr_BitAnd
    ReplaceComparisonOperator_Lt_LtE ReplaceComparisonOperator_LtE_Lt ReplaceComparisonOperator_Gt_GtE
    ReplaceComparisonOperator_GtE_Gt ReplaceComparisonOperator_Eq_NotEq ReplaceComparisonOperator_NotEq_Eq
    ReplaceUnaryOperator_USub_UAdd ReplaceUnaryOperator_Delete_Not ReplaceUnaryOperator_Delete_USub
""".split()


@dataclass(frozen=True)
class Place:
    """Where an operator changes a file; its ``occurrence``-th of that operator. text: the file's, sound."""

    file: str
    line: int
    column: int
    operator: str
    occurrence: int
    text: str

    @property
    def before(self) -> str:
        """The line, without indentation."""
        return self.text.splitlines()[self.line - 1].strip()

    @property
    def id(self) -> str:
        """Eight hex digits of what it changes, wherever in the file the line stands."""
        indent = len(self.text.splitlines()[self.line - 1]) - len(self.before)
        said = (SALT, self.file, self.operator, self.before, str(self.column - indent))
        return hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Mutant:
    """A place and the file's text as it is then."""

    place: Place
    text: str

    @property
    def after(self) -> str:
        """The line that is changed, without indentation."""
        pairs = zip(self.place.text.splitlines(), self.text.splitlines(), strict=False)
        return next((after.strip() for before, after in pairs if before != after), "")


def drawn(root: Path, folders: Sequence[str], leave_out: Mapping[str, str], count: int) -> list[Mutant]:
    """Draw ``count`` mutants of the files below folders: those with the smallest ids, one a line, in the files' order.

    leave_out: patterns of a line's text that tests need not notice, and why.
    """
    files = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    places = [place for path in files if count for place in _places(path, str(path.relative_to(root)))]
    chosen: dict[tuple[str, int], Mutant] = {}
    for place in sorted(places, key=lambda place: place.id):
        if len(chosen) == count:
            break
        left_out = any(re.search(pattern, place.before) for pattern in leave_out)
        if not left_out and (place.file, place.line) not in chosen and (mutant := _mutant(place)) is not None:
            chosen[place.file, place.line] = mutant
    return [chosen[key] for key in sorted(chosen)]


def _operator(name: str) -> Any:
    from cosmic_ray import plugins

    return plugins.get_operator(f"core/{name}")()


def _places(path: Path, name: str) -> Iterator[Place]:
    from cosmic_ray.ast import ast_nodes, get_ast

    text = path.read_text(encoding="utf-8")
    nodes = list(ast_nodes(get_ast(text)))
    for operator in OPERATORS:
        positions = [at for node in nodes for at in _operator(operator).mutation_positions(node)]
        for occurrence, ((line, column), _) in enumerate(positions):
            yield Place(name, line, column, operator, occurrence, text)


def _mutant(place: Place) -> Mutant | None:
    """The mutant of a place; None where it is the same program, but for annotations."""
    from cosmic_ray.mutating import mutate_code

    text = mutate_code(place.text, _operator(place.operator), place.occurrence)
    if text is None or _without_annotations(text) == _without_annotations(place.text):
        return None
    return Mutant(place, text)


class _Bare(ast.NodeTransformer):
    """Takes annotations out, which nothing evaluates here."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Name("annotation", ast.Load())
        return self.generic_visit(node)


def _without_annotations(source: str) -> str:
    return ast.dump(_Bare().visit(ast.parse(source)))
