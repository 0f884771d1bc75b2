"""``make wheels-again``: everything once more in another folder, and the same bytes.

The last commit is cloned, and its wheels are built there with an empty cache of the compiler, so
that neither a path, nor a time, nor what was built before is left to come out the same by chance.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from wheels import BUILD, DIST, ROOT


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every archive in a folder."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def main() -> None:
    """Clone, build and compare; exits where a byte differs."""
    changed = subprocess.check_output(["git", "status", "--porcelain"], cwd=ROOT, text=True)
    if changed:
        sys.exit(f"what is built again is the last commit, and this is not in it:\n{changed}")
    with tempfile.TemporaryDirectory(prefix="another folder ") as folder:
        clone = Path(folder, "clone")
        subprocess.run(["git", "clone", "--quiet", "--no-local", ROOT, clone], check=True)
        caches = {
            f"ZIG_{name}_CACHE_DIR": str(Path(folder, name.lower())) for name in ("GLOBAL", "LOCAL")
        }
        environment = {**os.environ, **caches}
        subprocess.run([sys.executable, "-m", "wheels"], cwd=clone, env=environment, check=True)
        again = digests(clone / BUILD.relative_to(ROOT) / DIST.name)
    here = digests(DIST)
    for name in sorted(here | again):
        if here.get(name) != again.get(name):
            sys.exit(f"{name}: {here.get(name)} here, {again.get(name)} in another folder")
        print(f"{here[name]}  {name}")


if __name__ == "__main__":
    main()
