"""What can go wrong between a person and the registry. Each message says what was asked, what was found, what to do next."""


class RegistryError(Exception):
    """Base of every mistake the registry reports; commands print it and exit 2."""


class InvalidName(RegistryError):
    """A reference, kind, name or revision that is not well formed."""


class ReferenceNotFound(RegistryError):
    """A well-formed reference that leads to no artifact."""


class WrongKind(RegistryError):
    """An artifact of another kind than the one that is needed."""


class DraftInUse(RegistryError):
    """Another process is making the same artifact at this moment."""


class CorruptArtifact(RegistryError):
    """An artifact (or the alias file) whose files are not what was committed, or cannot be read."""


class UnknownFormat(RegistryError):
    """A manifest written by a newer version of this project."""


class NotLoggedIn(RegistryError):
    """Nothing can be pushed to the Hub without an account."""


class CannotWrite(OSError):
    """The disk is full, or the registry may only be read. Not a RegistryError: the request itself is in order."""


class CannotPush(OSError):
    """The Hub cannot be reached, or refuses."""
