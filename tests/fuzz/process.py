"""One reader, many files: python -m tests.fuzz.process READER FOLDER EXECUTIONS SEED GUIDED."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from random import Random


def main(name: str, folder: Path, executions: int, seed: int, guided: bool) -> None:
    """The last file that was read stays in `folder`, for who finds this process dead."""
    with _watched() if guided else contextlib.nullcontext():
        from tests.fuzz import readers

        reader = readers.READERS[name]
        path = folder / f"file{reader.ending}"
        for content in reader.seeds():  # imports all that is imported late
            readers.execute(reader, content, path)
    if guided:
        _guided(name, path, executions, seed)
        return
    accepted = sum(readers.execute(reader, c, path) for c in readers.inputs(name, executions, seed))
    print(f"{accepted:,} accepted")


def _watched() -> contextlib.AbstractContextManager[None]:
    """Let Atheris see which lines and branches of the readers run."""
    import atheris

    for module in [name for name in sys.modules if name.partition(".")[0] == "zipfile"]:
        del sys.modules[module]  # imported by the interpreter already
    watch: contextlib.AbstractContextManager[None] = atheris.instrument_imports(
        include=["fastmnist", "zipfile", "PIL"]
    )
    return watch


def _guided(name: str, path: Path, executions: int, seed: int) -> None:
    """Let libFuzzer choose what to change; it ends this process when it is done."""
    import atheris

    from tests.fuzz import mutate, readers

    reader = readers.READERS[name]
    corpus = path.parent / "corpus"
    corpus.mkdir()
    valid = reader.seeds()
    for i, content in enumerate([*valid, *readers.found(name)]):
        (corpus / f"{i:03}").write_bytes(content)

    def change(content: bytes, longest: int, number: int) -> bytes:
        rng = Random(number)
        choice = rng.random()
        if choice < 0.05:
            return bytes(atheris.Mutate(content, longest))
        if choice < 0.4:  # what has reached new code is often too broken to get any further
            content = rng.choice(valid)
        return reader.mutate(content, rng)[:longest]

    options = [
        f"-runs={executions}",
        f"-seed={seed}",
        f"-max_len={mutate.LONGEST}",
        f"-artifact_prefix={path.parent}/",
        "-rss_limit_mb=0",  # the reader's own is stricter
        "-mutate_depth=2",
        "-timeout=60",
        "-print_final_stats=1",
    ]

    def read(content: bytes) -> None:
        readers.execute(reader, content, path)

    atheris.Setup([sys.argv[0], *options, str(corpus)], read, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    name, folder, executions, seed, guided = sys.argv[1:]
    main(name, Path(folder), int(executions), int(seed), guided == "1")
