"""Which sources an artifact's key depends on: all that a conversion loads, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from converters.source_graph import CONVERSION, PROJECT, digest_of_sources, loaded_sources


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of this project's sources that may be edited."""
    for package in ("models", "converters"):
        shutil.copytree(PROJECT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edited(project: Path, name: str) -> bool:
    """Whether an edit of a file changes the digest."""
    before, path = digest_of_sources(CONVERSION, project), project / name
    path.write_text(path.read_text() + "\n# edited\n")
    return digest_of_sources(CONVERSION, project) != before


@pytest.mark.parametrize(
    "name",
    [
        *("models/trainer.py", "models/learner.py", "models/recipe.py", "models/training_state.py"),
        *("models/image_loading.py", "models/published.py", "models/size_worker.py"),
    ],
)
def test_what_no_conversion_loads_does_not_count(project: Path, name: str) -> None:
    assert not edited(project, name)


@pytest.mark.parametrize(
    "name",
    [
        *("models/__init__.py", "models/nextvit.py", "models/nextvit_blocks.py", "models/layers.py"),
        "models/folding.py",
        *("models/spec.py", "models/checkpoint.py", "models/vcmamba.py", "models/block_networks.py"),
        *("models/image_data.py", "models/calibration_draw.py"),  # int8 is calibrated on images
        *("converters/onnx_from_torch.py", "converters/engine_from_onnx.py", "converters/onnx_from_file.py"),
        *("converters/mlpackage_compress.py", "converters/worker.py", "converters/source_graph.py"),
    ],
)
def test_what_a_conversion_loads_counts(project: Path, name: str) -> None:
    assert edited(project, name)


def test_every_model_and_converter_of_the_tables_counts() -> None:
    from converters import CONVERTERS
    from models import MODELS

    found = {path.relative_to(PROJECT).as_posix() for path in loaded_sources(CONVERSION)}
    for place in (*MODELS.values(), *CONVERTERS.values()):
        assert f"{place.partition(':')[0].replace('.', '/')}.py" in found, place


def test_a_file_counts_from_when_it_is_imported(project: Path) -> None:
    before = digest_of_sources(CONVERSION, project)
    (project / "models/unrelated.py").write_text("x = 1\n")
    assert digest_of_sources(CONVERSION, project) == before
    layers = project / "models/layers.py"
    layers.write_text(layers.read_text() + "\ndef late():\n    try:\n        from models import unrelated\n")
    layers.write_text(layers.read_text() + "    except ValueError:\n        pass\n")
    assert edited(project, "models/unrelated.py")


@pytest.mark.parametrize(
    "line",
    [
        "import models.late",
        "import models.late as other",
        "from models.late import x",
        "from models import late",
        "from . import late",
        "from .late import x",
        "def f():\n    if True:\n        with open('x'):\n            import models.late",
        "match 1:\n    case 1:\n        import models.late",
        "class A:\n    def f(self):\n        from models import late",
        "TABLE = {'a': 'models.late:x'}",
        'COMMAND = ["python", "-m", "models.late"]',
    ],
)
def test_every_way_of_naming_a_module_counts(tmp_path: Path, line: str) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for name in ("__init__", "late", "other"):
        (models / f"{name}.py").write_text("x = 1\n")
    (models / "root.py").write_text(f"{line}\n")
    found = {path.name for path in loaded_sources(["models.root"], tmp_path)}
    assert found == {"__init__.py", "root.py", "late.py"}


def test_a_root_that_is_no_module_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no module models\.none"):
        loaded_sources(["models.none"], tmp_path)


LOADED = """
import json, sys
from pathlib import Path
import converters, models
from converters.cache import ArtifactCache
model = models.ModelSpec.of("block/ncb", resolution=7, in_channels=32)
for kind, precision, flavour in json.loads(sys.argv[2]):
    request = converters.ConversionRequest(model, kind, precision=precision, flavour=flavour)
    converters.convert(request, ArtifactCache(Path(sys.argv[1])))
print(json.dumps([n for n in sys.modules if n.partition(".")[0] in ("models", "converters")]))
"""


@pytest.mark.slow
def test_no_more_is_loaded_than_was_found(tmp_path: Path) -> None:
    """Files of several kinds are really made, and the modules that are loaded then are among those found."""
    pytest.importorskip("coremltools", reason="coremltools is not installed")
    kinds = [["onnx", "int8", "cpu"], ["onnx", "fp16", ""], ["exported_program", "bf16", ""]]
    kinds += [["mlpackage", "fp16-pal6", ""]]
    command = [sys.executable, "-c", LOADED, str(tmp_path), json.dumps(kinds)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.splitlines()[-1])
    found = {path.relative_to(PROJECT).with_suffix("").as_posix() for path in loaded_sources(CONVERSION)}
    files = {name.replace(".", "/") for name in loaded}
    assert len(files) > 40
    assert not {name for name in files if name not in found and f"{name}/__init__" not in found}
