"""``rlhf doctor`` on the machine: Python and libraries against what the package asks for, processor, memory, disk and locks."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from registry.errors import RegistryError
from registry.writing import check_locks
from stages.doctor.check import Check, checked
from stages.terminal.screen_text import size_text

DISTRIBUTION = "llama-rlhf"
LEAST_DISK = 10**9  # bytes; the smallest recipes leave some ten MB, and libraries and logs want room as well


def machine_checks(root: Path) -> Iterator[Check]:
    """The machine on which this runs, and the disk of the registry at ``root``, which need not exist yet."""
    yield from library_checks()
    yield Check("processor", "ok", f"{os.cpu_count()} cores, {_memory()}")
    yield accelerator()
    there = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.is_dir())
    yield disk(there, shutil.disk_usage(there).free)
    yield locks(there)


def library_checks(distribution: str = DISTRIBUTION, python: str = platform.python_version()) -> Iterator[Check]:
    """Python and the installed libraries against the ranges that ``distribution`` declares."""
    try:
        about = importlib.metadata.metadata(distribution)
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "libraries", "skipped", f"{distribution} is not installed, so nothing says what it needs", "pip install -e ."
        )
        return
    supported = about["Requires-Python"] or ""
    wrong = [] if python in SpecifierSet(supported) else [f"Python {python} does not fit {supported}"]
    yield checked("python", wrong, f"{python}, within {supported}", f"use a Python within {supported}")
    needed = [Requirement(text) for text in importlib.metadata.requires(distribution) or []]
    core = [requirement for requirement in needed if not requirement.marker or requirement.marker.evaluate({"extra": ""})]
    problems = [problem for requirement in core if (problem := _misfit(requirement))]
    newest = ", ".join(f"{requirement.name} {_version(requirement.name)}" for requirement in core[:3])
    install = "pip install " + " ".join(
        f'"{requirement.name}{requirement.specifier}"' for requirement in core if _misfit(requirement)
    )
    yield checked("libraries", problems, f"{len(core)} within their ranges: {newest} and others", install)
    for extra in about.get_all("Provides-Extra") or []:
        listed = [
            requirement
            for requirement in needed
            if requirement not in core and requirement.marker and requirement.marker.evaluate({"extra": extra})
        ]
        missing = [problem for requirement in listed if (problem := _misfit(requirement))]
        yield Check(f"extra {extra}", "note", f"not whole: {', '.join(missing)}" if missing else "installed")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _misfit(requirement: Requirement) -> str | None:
    version = _version(requirement.name)
    if version is None:
        return f"{requirement.name} is missing"
    if not requirement.specifier.contains(version, prereleases=True):
        return f"{requirement.name} {version} does not fit {requirement.specifier}"
    return None


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size_text(total)} of memory"


def accelerator() -> Check:
    """GPUs with their memory, and whether they compute in bfloat16."""
    devices = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        bf16 = "with bfloat16" if about.major >= 8 else "without bfloat16"
        devices.append(f"{about.name}, {size_text(about.total_memory)}, {bf16}")
    return Check("accelerator", "note", "; ".join(devices) or "no GPU; everything runs on the CPU, in float32")


def disk(folder: Path, free: int) -> Check:
    """Room for what stages write."""
    problems = [f"{size_text(free)} are free in {folder}"] if free < LEAST_DISK else []
    advice = "free some space, or put the registry on another disk; rlhf registry prune shows what is not needed"
    return checked("disk", problems, f"{size_text(free)} are free in {folder}", advice)


def locks(folder: Path) -> Check:
    """Whether locks exclude where the registry is, or would be."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place:
            check_locks(Path(place))
    except RegistryError as error:
        return Check("locks", "wrong", str(error), "put the registry on a disk of this machine")
    except OSError as error:
        fault = f"{folder} cannot be written ({error.strerror}): existing artifacts can be read, but nothing can be made"
        return Check("locks", "note", fault, "give another --registry to make something")
    return Check("locks", "ok", f"files in {folder} can be locked")
