"""What the globs of a profile show and hide."""

from __future__ import annotations

from collections.abc import Sequence

from gateway_core.api.globs import Globs
from gateway_core.api.uris import UriGlobs


class Visible:
    """Globs of which those after `!` hide what they match. With nothing but such globs, everything else is visible."""

    __slots__ = ("_hidden", "_visible")

    def __init__(self, globs: Sequence[str]) -> None:
        visible = [glob for glob in globs if not glob.startswith("!")]
        self._hidden = Globs(glob[1:] for glob in globs if glob.startswith("!"))
        self._visible = Globs(visible or ["*"] if globs else [])

    def shows(self, names: Sequence[str]) -> bool:
        """Whether a glob matches any of these names of one thing, and none hides it."""
        return any(map(self._visible.matches, names)) and not self.hides(names)

    def hides(self, names: Sequence[str]) -> bool:
        """Whether a glob after `!` matches any of these names."""
        return any(map(self._hidden.matches, names))


class VisibleUris(Visible):
    """The same for URIs: however an agent writes one, what hides it counts."""

    __slots__ = ("_hidden_uris", "_visible_uris")

    def __init__(self, globs: Sequence[str]) -> None:
        super().__init__(globs)
        self._hidden_uris, self._visible_uris = UriGlobs(self._hidden), UriGlobs(self._visible)

    def shows(self, names: Sequence[str]) -> bool:
        return any(map(self._visible_uris.surely_match, names)) and not self.hides(names)

    def hides(self, names: Sequence[str]) -> bool:
        return any(map(self._hidden_uris.perhaps_match, names))
