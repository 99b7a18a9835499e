"""Symbolic links: a registry follows none below its root, for what lies behind one is not its own."""

from pathlib import Path

from registry.errors import CorruptArtifact


def first_link(root: Path, path: Path) -> Path | None:
    """The first symbolic link on the way from ``root`` (which may be one) down to ``path``, if there is any."""
    parts = path.relative_to(root).parts
    steps = (root.joinpath(*parts[: end + 1]) for end in range(len(parts)))
    return next((step for step in steps if step.is_symlink()), None)


def refuse_link(link: Path | None) -> None:
    """Raise CorruptArtifact where there is one."""
    if link:
        raise CorruptArtifact(
            f"{link} is a symbolic link; a registry holds its own folders, so put the folder itself in its place"
        )


def files_and_links(folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sorted POSIX paths of the files under ``folder``, and of the symbolic links, which are not followed."""
    links = {path for path in folder.rglob("*") if path.is_symlink()}
    files = {path for path in folder.rglob("*") if path.is_file()} - links
    return _posix(folder, files), _posix(folder, links)


def _posix(folder: Path, paths: set[Path]) -> tuple[str, ...]:
    return tuple(sorted(path.relative_to(folder).as_posix() for path in paths))
