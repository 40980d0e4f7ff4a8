"""otel-novu as its users have it: the wheel and the locked packages, nothing of development."""

import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment.

    Args:
        folder: where it is.
    """

    folder: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "bin" / "python")

    @property
    def exporter(self) -> str:
        """The command that users type."""
        return str(self.folder / "bin" / "otel-novu")


@contextmanager
def installed() -> Iterator[Installed]:
    """Build the wheel and install it, for a while."""
    with tempfile.TemporaryDirectory(prefix="otel-novu-bench-") as place:
        folder = Path(place)
        made = Installed(folder / "venv")
        venv.create(made.folder, symlinks=True)
        _run("-m", "build", "--no-isolation", "--wheel", "-o", str(folder), str(ROOT))
        into = ["-m", "uv", "pip", "install", "-q", "--compile-bytecode", "--python", made.python]
        _run(*into, "--require-hashes", "-r", str(ROOT / "requirements.txt"))
        _run(*into, "--no-deps", *(str(wheel) for wheel in folder.glob("*.whl")))
        yield made


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
