"""Build of the Cython kernels; everything else about the project stands in pyproject.toml."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

HEADERS = sorted(map(str, Path("_ext").glob("*.h")))
KERNELS = (
    *("preprocess", "project", "lift", "lift_levels", "warp", "occupancy", "smooth", "ridges", "polylines", "regions"),
    *("magnitude", "objects", "octets", "outputs", "crc32", "crew", "cpuid", "seqlock"),
)
FOLDERS = (
    *("_ext", "bench", "bench.peers", "bench.tuning", "cli", "fusion", "models", "replay", "replay.faults", "sources"),
    *("runtime", "runtime.live", "runtime.ring", "runtime.sync", "runtime.topics"),
)

BOUNDS_CHECKS = os.environ.get("OCTOBEV_BOUNDS_CHECKS", "0") == "1"
"""Kernels that check every index, for the test suite's second run."""

BUILD_FOLDER = "build/checked" if BOUNDS_CHECKS else "build/fast"
"""Apart, because neither Cython nor setuptools rebuilds when only the directives change."""


class BuildKernels(build_ext):
    """Compile with OpenMP where the compiler has it, without it where not."""

    def build_extensions(self) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        optimise = ["/O2"] if msvc else ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
        openmp = ["/openmp"] if msvc else ["-fopenmp"]
        with_openmp = os.environ.get("OCTOBEV_OPENMP", "1") == "1" and self._compiles(openmp)
        for extension in self.extensions:
            extension.extra_compile_args += optimise + (openmp if with_openmp else [])
            extension.extra_link_args += openmp if with_openmp and not msvc else []
        super().build_extensions()

    def _compiles(self, flags: list[str]) -> bool:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
            try:
                objects = self.compiler.compile([str(source)], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=flags)
            except Exception as error:  # distutils raises several unrelated types for "does not compile"
                print(f"OpenMP is not available ({error}); kernels run on one thread each", file=sys.stderr)
                return False
        return True


class BuildModules(build_py):
    """The package root is the repository root: leave out what stands there but is not of the package."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        found = super().find_package_modules(package, package_dir)
        return [module for module in found if (package, module[1]) != ("octobev", "setup")]


class PlatformDistribution(Distribution):
    """A wheel with compiled kernels is never pure."""

    def has_ext_modules(self) -> bool:
        return True


EXTENSIONS = cythonize(
    [
        Extension(
            f"octobev._ext.{name}",
            [f"_ext/{name}.pyx"],
            include_dirs=["_ext"],
            depends=HEADERS,
        )
        for name in KERNELS
    ],
    compiler_directives={"language_level": 3, "boundscheck": BOUNDS_CHECKS, "initializedcheck": BOUNDS_CHECKS},
    build_dir=f"{BUILD_FOLDER}/cython",
)

setup(
    packages=["octobev", *(f"octobev.{folder}" for folder in FOLDERS)],
    package_dir={"octobev": "."} | {f"octobev.{folder}": folder.replace(".", "/") for folder in FOLDERS},
    ext_modules=EXTENSIONS,
    cmdclass={"build_ext": BuildKernels, "build_py": BuildModules},
    distclass=PlatformDistribution,
    options={"build": {"build_base": BUILD_FOLDER}},
)
