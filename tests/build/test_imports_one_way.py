"""The layers of the architecture page: imports point one way. Sources are parsed, nothing is imported.

csrc/common <- csrc/cpu, csrc/cuda <- csrc/torch <- bbs_kernels <- basket_softmax <- bbs_bench, tests
"""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support.import_rules import CUDA, CUDA_FILES, KERNELS, SOFTMAX

COMPILED = {"bbs_kernels._core"}  # plans and constants from C++: below every Python module
EXCEPTIONS = Path(__file__).with_name("import_exceptions.txt")
ROOT = Path(__file__).resolve().parents[2]

PYTHON_LAYERS = {  # package: (folder, packages of this repository that it may import)
    "bbs_kernels": (ROOT / "bbs_kernels", {"bbs_kernels"}),
    "basket_softmax": (ROOT / "python" / "basket_softmax", {"bbs_kernels", "basket_softmax"}),
    "bbs_bench": (ROOT / "bench" / "bbs_bench", {"bbs_kernels", "basket_softmax", "bbs_bench"}),
    "bbs_gpu": (ROOT / "bench" / "bbs_gpu", {"bbs_kernels", "basket_softmax", "bbs_bench", "bbs_gpu"}),
}
CPP_LAYERS = {  # folder of csrc: folders of csrc that it may include
    "common": {"common"},
    "cpu": {"common", "cpu"},
    "cuda": {"common", "cuda"},
    "torch": {"common", "cpu", "cuda", "torch"},
    "python": {"common", "cpu", "cuda", "python"},
}
HOST_HEADERS = (
    "plan.h",
    "sort_plan.h",
    "backward_plan.h",
    "forward_call.h",
    "backward_call.h",
    "check_call.h",
)
CPP_OUTSIDE = {  # first part of an angle-bracket include with a slash: the folders that may use it
    "torch": {"torch"},
    "ATen": set(),  # not in the stable ABI
    "c10": set(),
    "pybind11": {"python"},
}
SUFFIXES = {".h", ".cpp", ".inl", ".cu", ".cuh"}

pytestmark = pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs the source tree")


def imported_modules(path, package_root):
    """Absolute names of the modules that a file imports, with relative imports resolved."""
    own = path.relative_to(package_root.parent).with_suffix("").parts
    package = own[:-1]  # of a module: its folder; of an __init__.py: the folder itself
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1]
            yield ".".join((*base, *([node.module] if node.module else [])))


def test_relative_imports_are_resolved(tmp_path):
    package = tmp_path / "bbs_kernels"
    (package / "sub").mkdir(parents=True)
    file = package / "sub" / "module.py"
    file.write_text(
        "import basket_softmax.data\nfrom .. import a\nfrom .near import b\nfrom torch import nn\n"
    )
    found = set(imported_modules(file, package))
    assert found == {"basket_softmax.data", "bbs_kernels", "bbs_kernels.sub.near", "torch"}


@pytest.mark.parametrize("package", PYTHON_LAYERS)
def test_python_imports_point_one_way(package):
    folder, allowed = PYTHON_LAYERS[package]
    files = sorted(folder.rglob("*.py"))
    assert files, f"no sources in {folder}"
    forbidden = PYTHON_LAYERS.keys() - allowed
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imported_modules(path, folder)
        if module.split(".")[0] in forbidden
    ]
    assert not wrong, "\n".join(wrong)


def test_kernels_package_defines_no_losses():
    """Margins keep statistics, so they may be modules; nothing else is one."""
    classes = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "bbs_kernels").rglob("*.py"))
        if path.parent.name != "margins"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and any("Module" in ast.unparse(base) for base in node.bases)
    ]
    assert not classes, f"bbs_kernels holds no nn.Module but margins: {classes}"


@pytest.mark.parametrize("layer", [name for name in CPP_LAYERS if (ROOT / "csrc" / name).is_dir()])
def test_cpp_includes_point_one_way(layer):
    folder = ROOT / "csrc" / layer
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES]
    assert files, f"no sources in {folder}"
    wrong = []
    for path in files:
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE):
            target = (path.parent / name).resolve()
            if not target.exists():
                wrong.append(f"{path.relative_to(ROOT)} includes {name}, which does not exist beside it")
            elif target.relative_to(ROOT / "csrc").parts[0] not in CPP_LAYERS[layer]:
                wrong.append(f"{path.relative_to(ROOT)} includes {target.relative_to(ROOT)}")
        for name in re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.MULTILINE):
            users = CPP_OUTSIDE.get(name.split("/")[0])
            if users is not None and layer not in users:
                wrong.append(f"{path.relative_to(ROOT)} includes <{name}>")
            if layer == "torch" and name.startswith("torch/") and not stable_header(name):
                wrong.append(f"{path.relative_to(ROOT)} includes <{name}>, outside torch's stable ABI")
    assert not wrong, "\n".join(wrong)


def imports_of(path, package_root):
    """Modules and packages of this repository that a file imports, each name of `from x import y` by itself."""
    own = path.relative_to(package_root.parent).with_suffix("").parts
    package = own[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            for alias in node.names:
                name = f"{module}.{alias.name}"
                yield name if name in COMPILED or source_of(name, package_root) else module


def source_of(module, package_root):
    """The file of a module of the package; None when there is none."""
    path = package_root.parent.joinpath(*module.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


def place_of(module, places):
    """The place of a module, named without its package: the one that names it, or the nearest folder above it."""
    parents = module.split(".")
    names = [module, *(".".join(parents[:n]) + ".*" for n in range(len(parents) - 1, 0, -1))]
    found = [place for name in names for place, rule in places.items() if name in rule.modules]
    assert found, f"{module or '__init__'} has no place in import_rules.py"
    return found[0]


def inner_imports(package, folder):
    """(importer, imported) for every import inside the package, without the package's name; "" is its __init__."""
    for path in sorted(folder.rglob("*.py")):
        own = path.relative_to(folder).with_suffix("").parts
        module = ".".join(own[:-1] if own[-1] == "__init__" else own)
        for target in set(imports_of(path, folder)):
            if target.split(".")[0] == package and source_of(target, folder) is not None:
                yield module, target.partition(".")[2]


def spoken(package, module, target):
    return f"{package}.{module} imports {package}.{target}".replace(". ", " ").removesuffix(".")


def broken_inside(package, folder, places):
    """ "a imports b" for every import inside the package that no rule allows."""
    for module, target in inner_imports(package, folder):
        here, there = place_of(module, places), place_of(target, places)
        if here != there and there not in places[here].imports:
            yield spoken(package, module, target)


def exceptions():
    lines = EXCEPTIONS.read_text(encoding="utf-8").splitlines()
    return {line for line in lines if line and not line.startswith("#")}


def cuda_folder(path):
    """Where a file of csrc/cuda belongs: its folder, or the one that import_rules.py names."""
    inside = path.relative_to(ROOT / "csrc" / "cuda").parts
    if len(inside) > 1:
        return inside[0]
    found = [folder for folder, files in CUDA_FILES.items() if inside[0] in files]
    assert found, f"csrc/cuda/{inside[0]} has no folder in import_rules.py"
    return found[0]


def broken_in_cuda():
    """ "a includes b" for every include inside csrc/cuda that no rule allows."""
    folder = ROOT / "csrc" / "cuda"
    for path in sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES):
        here = cuda_folder(path)
        for name in re.findall(
            r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            target = (path.parent / name).resolve()
            if not target.is_relative_to(folder):
                continue
            there = cuda_folder(target)
            if here != there and there not in CUDA[here]:
                yield f"csrc/cuda/{path.relative_to(folder)} includes {target.relative_to(folder)}"


def test_parts_of_a_package_import_one_way():
    """Exactly the listed exceptions are left: a new one fails, and so does one that is gone and still listed."""
    found = {
        *broken_inside("bbs_kernels", ROOT / "bbs_kernels", KERNELS),
        *broken_inside("basket_softmax", ROOT / "python" / "basket_softmax", SOFTMAX),
        *broken_in_cuda(),
    }
    listed = exceptions()
    assert not found - listed, "new:\n" + "\n".join(sorted(found - listed))
    assert not listed - found, "gone, take them off the list:\n" + "\n".join(sorted(listed - found))


@pytest.mark.parametrize("rules", [KERNELS, SOFTMAX], ids=["bbs_kernels", "basket_softmax"])
def test_rules_between_places_have_no_circle(rules):
    seen = {}

    def below(place):
        assert seen.get(place) != "open", f"{place} may import what imports it"
        if place not in seen:
            seen[place] = "open"
            for other in rules[place].imports:
                below(other)
            seen[place] = "done"

    for place in rules:
        below(place)


@pytest.mark.parametrize(
    ("package", "folder"),
    [("bbs_kernels", ROOT / "bbs_kernels"), ("basket_softmax", ROOT / "python" / "basket_softmax")],
)
def test_modules_import_without_a_circle(package, folder):
    """But for the listed exceptions; imports for types alone count."""
    listed = exceptions()
    graph = TopologicalSorter()
    for module, target in inner_imports(package, folder):
        if module != target and spoken(package, module, target) not in listed:
            graph.add(module, target)
    graph.prepare()  # raises CycleError, which names the circle


def test_a_broken_rule_is_found(tmp_path):
    package = tmp_path / "bbs_kernels"
    (package / "ops").mkdir(parents=True)
    (package / "rules.py").write_text("if TYPE_CHECKING:\n    from .ops import call\n")
    (package / "ops" / "__init__.py").write_text("from ..rules import Own\n")
    (package / "ops" / "call.py").write_text("")
    assert list(broken_inside("bbs_kernels", package, KERNELS)) == [
        "bbs_kernels.rules imports bbs_kernels.ops.call"
    ]


HOST_ONLY = ("plan", "runtime")  # folders of csrc/cuda that no kernel may see


def test_kernels_do_not_see_the_host():
    """A kernel file compiles alone, also with NVRTC: neither launch plans nor the driver are in its sight."""
    wrong = [
        f"{path.name} includes {name}"
        for path in sorted((ROOT / "csrc" / "cuda").rglob("*.cuh"))
        for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)
        if Path(name).name in HOST_HEADERS or (path.parent / name).resolve().parent.name in HOST_ONLY
    ]
    assert not wrong, "\n".join(wrong)


def test_plans_do_not_see_the_driver():
    folder = ROOT / "csrc" / "cuda"
    plans = [*(folder / "plan").glob("*.h"), *(folder / name for name in HOST_HEADERS)]
    assert all(path.exists() for path in plans)
    wrong = [path.name for path in plans if "runtime/" in path.read_text(encoding="utf-8")]
    assert not wrong, f"launch plans are pure: {wrong}"


def stable_header(name):
    return name.startswith(("torch/csrc/stable/", "torch/headeronly/", "torch/csrc/inductor/aoti_torch/c/"))


def test_every_folder_of_csrc_has_a_layer():
    folders = {path.name for path in (ROOT / "csrc").iterdir() if path.is_dir()}
    assert folders <= CPP_LAYERS.keys()
