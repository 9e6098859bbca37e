"""Mutation testing: change one operator or number at a time, and see whether a test notices.

    python tests/mutants.py                                           # the reference, the readers
    python tests/mutants.py fastmnist/idx.py                          # one file
    NUMBA_DISABLE_JIT=1 python tests/mutants.py --at-most 200 fastmnist/kernels/*.py

The mutants are Cosmic Ray's. They are made in mutants/tree, a copy of the sources, and what came of
them is kept beside it: a second run of the same source tries those that survived, and those that
are new, again. docs/mutants.md explains what survives.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import multiprocessing
import os
import random
import re
import resource
import shlex
import shutil
import signal
import sqlite3
import sys
import time
from pathlib import Path

import cosmic_ray.commands
import cosmic_ray.mutating
import hypothesis.extra.numpy  # noqa: F401 (imported here once, not by every run of the tests)
import numba  # noqa: F401
import pytest
from cosmic_ray.config import ConfigDict
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

READERS = [
    "idx",
    "csv_files",
    "archive",
    "checkpoints",
    "model",
    "exchange",
    "files",
    "datasets",
    "pictures",
]

# The tests of a file, where they are not all of tests/test_NAME.py (of a kernel, `KERNELS`): few
# and quick, the likeliest first.
MODEL = (
    "tests/test_model.py --deselect "
    "tests/test_model.py::test_few_images_and_many_are_predicted_alike"
)
EXCHANGE = (
    "tests/test_exchange.py --deselect tests/test_exchange.py::test_pytorch_loads_them_as_they_are"
)
KERNELS = (
    "tests/test_kernels.py tests/test_team.py -k '"
    "an_epoch_agrees and (sizes1-32 or sizes1-130 and (sgd or adamw) or sizes2-7-nesterov)"
    " or divided_by or every_regularizer and uint8 and (sizes1 or sizes0-packed-input)"
    " or density_agrees and 129 and 0.19 or weighted or any_weight or each_weight or in_place"
    " or padding or prepared or images_and_rows or clock or form_is or extreme or logits or no_rows"
    " or more_inputs or team or bad_arguments or few_rows or compressed or warmed"
    " or same_bits and 3-packed'"
)
DISTORTED = "tests/test_augment.py -k 'definition or company or zeros or train'"
TEAM = "tests/test_team.py tests/test_environment.py"
TESTS = {
    "distort": DISTORTED,
    "fresh": f"{DISTORTED[:-1]} or every_regularizer and sizes1 or whichever_meeting'"
    " tests/test_kernels.py tests/test_team.py",
    "plain": f"tests/test_augment.py {KERNELS[:-1]} or definition'",
    "barrier": TEAM,
    "team": TEAM,
    "jit": TEAM,
    "random_lanes": "tests/test_counter_based.py -k kernels",
    "archive": f"tests/test_archive.py {MODEL}",
    "checkpoints": "tests/test_checkpoints.py -k 'not numba and not batch'",
    "model": f"{MODEL} {EXCHANGE}",
    "exchange": EXCHANGE,
    "pictures": "tests/test_pictures.py -k 'not photos and not order'",
}

# Of these only the functions that have to do with files. The rest of pictures.py, for one, is
# judged by how many digits of photos are read well.
PARTS = {
    "model": r"save|load|_from_layers|_check\w*|\w+_of|\w+_in",
    "exchange": r"\w+_safetensors|_check_digest|_digest",
    "datasets": r"load|_split_csv|_find|_read_folder|_split",
    "pictures": r"read_digit|_pixels|_upright",
}

# One or two likely mistakes for each operator; Cosmic Ray has eleven, of which the others are
# noticed at once. Decorators stay: without compilation, @jit does nothing.
KEPT = re.compile(
    r"core/(NumberReplacer|AddNot|ExceptionReplacer|ZeroIterationForLoop"
    r"|ReplaceTrueWithFalse|ReplaceFalseWithTrue|ReplaceAndWithOr|ReplaceOrWithAnd"
    r"|ReplaceBreakWithContinue|ReplaceContinueWithBreak"
    r"|ReplaceUnaryOperator_(Delete_\w+|Invert_USub)"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|Div_FloorDiv|FloorDiv_Div"
    r"|FloorDiv_Mul|Mod_Div|Pow_Mul|LShift_RShift|RShift_LShift|BitAnd_BitOr|BitOr_BitAnd"
    r"|BitXor_BitAnd)"
    r"|ReplaceComparisonOperator_(Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt"
    r"|Eq_NotEq|Eq_LtE|Eq_GtE|NotEq_Eq|NotEq_Lt|NotEq_Gt|Is_IsNot|IsNot_Is|In_NotIn|NotIn_In))$"
)

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "mutants"
TREE = FOLDER / "tree"


def copy_sources() -> None:
    """Make a tree whose files may be changed, also while somebody works on the real ones."""
    shutil.rmtree(TREE, ignore_errors=True)
    for part in ["fastmnist", "tests", "benchmarks"]:
        shutil.copytree(ROOT / part, TREE / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", TREE)


def tests_of(module: Path) -> str:
    """Return which tests are for `module`, as arguments of pytest."""
    own = KERNELS if module.parent.name == "kernels" else f"tests/test_{module.stem}.py"
    return TESTS.get(module.stem, own)


def run_tests(tests: str, timeout: float | None = None) -> tuple[TestOutcome, str]:
    """Run pytest in a fork of this process: three times as fast as in a new one."""
    child = multiprocessing.get_context("fork").Process(target=silent_pytest, args=(tests,))
    child.start()
    child.join(timeout)
    if child.is_alive():
        os.killpg(child.pid, signal.SIGKILL)
        child.join()
        return TestOutcome.KILLED, "timeout"
    return TestOutcome.KILLED if child.exitcode else TestOutcome.SURVIVED, ""


def silent_pytest(tests: str) -> None:
    """Exit with pytest's status; in a group of its own, to be killed with what it has started."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    os.dup2(sys.__stdout__.fileno(), sys.__stderr__.fileno())
    options = "-xq -p no:nbmake -p no:randomly -p no:cacheprovider"
    imported = "-Wignore::pytest.PytestAssertRewriteWarning"
    sys.exit(pytest.main([*shlex.split(options), imported, *shlex.split(tests)]))


def seconds(tests: str) -> float:
    """Run the tests on the unchanged source, where they must pass."""
    start = time.perf_counter()
    if run_tests(tests)[0] is TestOutcome.KILLED:
        raise SystemExit(f"these tests fail without any mutant: {tests}")
    return time.perf_counter() - start


def never_run(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return where annotations are, and what writes LLVM's code: no mutant there can matter."""
    nodes = list(ast.walk(ast.parse(source)))
    found = [getattr(node, "annotation", None) for node in nodes]
    found += [getattr(node, "returns", None) for node in nodes]
    found += [
        node
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        and node.args.args
        and node.args.args[0].arg in ("typingctx", "context", "builder")
    ]
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        for node in found
        if node is not None
    ]


def matters(mutation, source: str) -> bool:
    """Return whether this is one of the `KEPT`, in the code that is asked about."""
    row, column = start = mutation.start_pos
    parts = PARTS.get(mutation.module_path.stem, ".*")
    bare_star = source.splitlines()[row - 1][column : column + 2] == "*,"  # def f(a, *, b)
    return (
        KEPT.match(mutation.operator_name) is not None
        and re.fullmatch(parts, mutation.definition_name or "")
        and not bare_star
        and not any(first <= start < last for first, last in never_run(source))
    )


def prepare(db, module: Path, at_most: int | None) -> None:
    """Make the list of mutants and skip those that are not wanted."""
    cosmic_ray.commands.init([module], db, {})
    source = module.read_text("utf-8")
    items = sorted(db.work_items, key=lambda item: (item.mutations[0].start_pos, str(item)))
    wanted = [item for item in items if matters(item.mutations[0], source)]
    if at_most is not None and at_most < len(wanted):
        wanted = random.Random(0).sample(wanted, at_most)
    ids = {item.job_id for item in items} - {item.job_id for item in wanted}
    db.set_multiple_results(ids, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))


def run(module: Path, at_most: int | None) -> tuple[str, list[str]]:
    """Try the mutants of a file; return what came of them, and the survivors as diffs."""
    tests = tests_of(module)
    timeout = 10 + 10 * seconds(tests)
    digest = hashlib.sha256(module.read_bytes() + str(at_most).encode()).hexdigest()[:8]
    session = FOLDER / f"{module.stem}-{digest}.sqlite"
    with use_db(session) as db:
        if db.num_work_items == 0:
            prepare(db, module, at_most)
        with contextlib.closing(sqlite3.connect(session)) as connection, connection:
            connection.execute("DELETE FROM work_results WHERE test_outcome = 'SURVIVED'")
        settings = {"test-command": tests, "timeout": timeout, "distributor": {"name": "local"}}
        cosmic_ray.commands.execute(db, ConfigDict(settings))
        results = [result for _, result in db.results]
    killed = [r for r in results if r.test_outcome is TestOutcome.KILLED]
    survivors = sorted(r.diff for r in results if r.test_outcome is TestOutcome.SURVIVED)
    total, late = len(killed) + len(survivors), sum(r.output == "timeout" for r in killed)
    share = f"{len(killed)} of {total} killed, {len(killed) / total:.0%}"
    return f"{module}: {share} ({late} for taking ten times as long)", survivors


def main() -> None:
    """Print the survivors of each file, and how many mutants were killed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", type=Path)
    parser.add_argument("--at-most", type=int, help="mutants of a file, drawn at random")
    arguments = parser.parse_args()
    modules = arguments.modules or [Path(f"fastmnist/{m}.py") for m in ["reference", *READERS]]

    copy_sources()
    os.chdir(TREE)
    os.environ["PYTHONPATH"] = str(TREE)
    sys.dont_write_bytecode = True  # a mutant's would be taken for the original's
    cosmic_ray.mutating.run_tests = run_tests
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))  # a mutant may want all memory
    lines = []
    for module in modules:
        line, survivors = run(module, arguments.at_most)
        print(*survivors, line, sep="\n\n", flush=True)
        lines.append(line)
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
