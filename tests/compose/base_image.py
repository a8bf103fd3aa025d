"""``python:3.13-slim-trixie`` where no registry of images is reached: the same Debian, with Debian's Python."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from runtime.java.jars import cache_folder
from tests.compose.shell import run

TAG = "python:3.13-slim-trixie"

_SUITE = "trixie"
_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
_OWN_CERTIFICATES = Path("usr/local/share/ca-certificates")
_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_LABEL = "client-tickets.stand-in"

# Like Debian's images, keep no downloaded packages and no package index.
_APT_CLEANS = (
    'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb || true"; };\n'
    'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
)


def import_base_image(daemon: Mapping[str, str]) -> None:
    """Load the image TAG into the daemon, unless it has exactly this one."""
    version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    form = f'{{{{index .Config.Labels "{_LABEL}"}}}}'
    if run("docker", "inspect", "--format", form, TAG, extra=daemon, check=False).stdout.strip() == version:
        return
    tarball = cache_folder().parent / f"base-{_SUITE}-{version}.tar"
    if not tarball.exists():
        _make(tarball)
    # If this machine trusts the CA of a proxy before the package registries, builds must trust it, too.
    settings = [f"ENV {name}={_BUNDLE}" for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
    changes = [
        part for setting in (*settings, f"LABEL {_LABEL}={version}", 'CMD ["python"]') for part in ("-c", setting)
    ]
    run("docker", "import", *changes, tarball, TAG, extra=daemon)


def _make(tarball: Path) -> None:
    tarball.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=tarball.parent, prefix=".base-") as folder:
        root, part = Path(folder) / "root", Path(folder) / "part.tar"
        run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, root, debian_mirror())
        _trust_what_this_machine_trusts(root)
        # Like the official image: pip works, and both are in /usr/local/bin.
        for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        for name, target in (("python", "python3"), ("python3", "python3"), ("pip", "pip3")):
            (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{target}")
        (root / "etc/apt/apt.conf.d/docker-clean").write_text(_APT_CLEANS, encoding="ascii")
        for waste in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / waste)
        run("tar", "--numeric-owner", "-C", root, "-cf", part, ".")
        part.replace(tarball)


def _trust_what_this_machine_trusts(root: Path) -> None:
    shutil.copytree(Path("/") / _OWN_CERTIFICATES, root / _OWN_CERTIFICATES, dirs_exist_ok=True)
    run("chroot", root, "update-ca-certificates")


def debian_mirror() -> str:
    """Return the mirror that the machine's own apt uses for its main archive; DEBIAN_MIRROR wins."""
    if given := os.environ.get("DEBIAN_MIRROR"):
        return given
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = run("apt-get", "indextargets", "--format", form, "Created-By: Packages").stdout.splitlines()
    codename = _codename()
    for line in lines:
        uri, release, component = line.split()
        if component == "main" and release == codename:
            return uri
    raise AssertionError("apt knows no main archive of this release; name a Debian mirror in DEBIAN_MIRROR")


def _codename() -> str:
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key == "VERSION_CODENAME":
            return value.strip('"')
    return ""
