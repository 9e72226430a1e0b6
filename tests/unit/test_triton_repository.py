"""Triton's config for each backend: read by Triton's own definition, and in step with what the sidecar sends."""

from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as config_pb

from sidecar import limits, triton_repository
from sidecar.batching import BUCKETS
from sidecar.engines.triton_endpoint import ONNX_PARAMETER
from sidecar.engines.url import parse_engine
from sidecar.errors import ConfigError
from sidecar.repository import Repository, Tokens, open_repository
from sidecar.triton_repository import BACKENDS, GPU_BATCH_TOKENS, TEMPLATES, config_text, write_triton_model


@pytest.fixture
def repository(tiny_repository: Path) -> Repository:
    return open_repository(tiny_repository)


def parsed(repository: Repository, backend: str, name: str = "motive-1") -> config_pb.ModelConfig:
    return text_format.Parse(config_text(repository, backend, name), config_pb.ModelConfig())


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_config_says_what_the_sidecar_relies_on(backend: str, repository: Repository) -> None:
    """Unknown fields and wrong types are refused by Triton's own protobuf definition."""
    config = parsed(repository, backend)
    assert config.name == "motive-1"
    assert config.max_batch_size == limits.BATCH_ROWS
    assert {one.name: one.data_type for one in config.input} == dict.fromkeys(
        ("input_ids", "attention_mask"), config_pb.TYPE_INT64
    )
    assert [(one.name, list(one.dims)) for one in config.output] == [("logits", [repository.calibration.outputs])]
    assert config.parameters[ONNX_PARAMETER].string_value == repository.manifest.files["1/model.onnx"]
    assert list(config.version_policy.specific.versions) == [1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_waits_for_a_fuller_batch_or_for_an_idle_model_to_be_noticed(
    backend: str, repository: Repository
) -> None:
    """Triton looks for the next batch in time only where the queue has neither priorities nor policies."""
    batching = parsed(repository, backend).dynamic_batching
    assert batching.max_queue_delay_microseconds == 0
    assert batching.priority_levels == 0
    assert not batching.HasField("default_queue_policy")
    assert not batching.priority_queue_policy


@pytest.mark.parametrize("backend", BACKENDS)
def test_warm_up_uses_shapes_that_the_sidecar_sends(backend: str, repository: Repository) -> None:
    for warmup in parsed(repository, backend).model_warmup:
        lengths = {tuple(one.dims) for one in warmup.inputs.values()}
        assert len(lengths) == 1
        (length,) = lengths.pop()
        assert length in BUCKETS
        assert 1 <= warmup.batch_size <= limits.BATCH_ROWS


@pytest.mark.parametrize(
    ("backend", "name", "kind"),
    [
        ("cpu", "onnxruntime", config_pb.ModelInstanceGroup.KIND_CPU),
        ("cuda", "onnxruntime", config_pb.ModelInstanceGroup.KIND_GPU),
        ("tensorrt", "onnxruntime", config_pb.ModelInstanceGroup.KIND_GPU),
        ("python", "python", config_pb.ModelInstanceGroup.KIND_CPU),
    ],
)
def test_each_backend_runs_where_it_says(backend: str, name: str, kind: int, repository: Repository) -> None:
    config = parsed(repository, backend)
    assert config.backend == name
    assert [group.kind for group in config.instance_group] == [kind]
    accelerators = [one.name for one in config.optimization.execution_accelerators.gpu_execution_accelerator]
    assert accelerators == {"tensorrt": ["tensorrt"]}.get(backend, [])


def test_cudas_options_stand_where_the_backend_reads_them(repository: Repository) -> None:
    """With any parameter of the model, it overwrites those of an accelerator by these or by its defaults."""
    parameters = parsed(repository, "cuda").parameters
    assert {key: one.string_value for key, one in parameters.items() if key != ONNX_PARAMETER} == {
        "cudnn_conv_algo_search": "2",
        "arena_extend_strategy": "1",
    }


def test_each_backend_is_warmed_up_for_the_batches_that_it_is_sent(repository: Repository) -> None:
    """What compose sends is checked beside the rest of compose."""
    wide = replace(repository, manifest=replace(repository.manifest, tokens=Tokens(window=256, stride=192)))
    full = {backend: parsed(wide, backend).model_warmup[-1].batch_size * 256 for backend in BACKENDS}
    assert full == {
        "cpu": limits.BATCH_TOKENS,
        "python": limits.BATCH_TOKENS,
        "cuda": GPU_BATCH_TOKENS,
        "tensorrt": GPU_BATCH_TOKENS,
    }


def test_tensorrts_profiles_cover_every_shape_that_the_sidecar_sends(repository: Repository) -> None:
    """A shape outside them would build an engine while callers wait."""
    (accelerator,) = parsed(repository, "tensorrt").optimization.execution_accelerators.gpu_execution_accelerator
    least, best, most = (_shape(accelerator.parameters[f"trt_profile_{one}_shapes"]) for one in ("min", "opt", "max"))
    assert least == (1, BUCKETS[0])
    assert most == (limits.BATCH_ROWS, repository.manifest.tokens.window)
    assert all(low <= middle <= high for low, middle, high in zip(least, best, most, strict=True))


def test_a_release_never_gets_the_engines_of_another(repository: Repository) -> None:
    """TensorRT's provider tells engines apart by names in the graph, which a model trained anew shares, not weights."""

    def cache(name: str) -> str:
        config = parsed(repository, "tensorrt", name)
        (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
        return str(accelerator.parameters["trt_engine_cache_prefix"])

    assert cache("motive-1111") != cache("motive-2222")


def test_tensorrt_computes_in_the_types_of_the_graph(repository: Repository) -> None:
    """In others the calibration would not hold."""
    (accelerator,) = parsed(repository, "tensorrt").optimization.execution_accelerators.gpu_execution_accelerator
    assert "precision_mode" not in accelerator.parameters


def _shape(profile: str) -> tuple[int, int]:
    shapes = {part.split(":")[0]: part.split(":")[1] for part in profile.split(",")}
    assert shapes["input_ids"] == shapes["attention_mask"]
    rows, tokens = shapes["input_ids"].split("x")
    return int(rows), int(tokens)


def test_every_setting_has_its_reason_above_it() -> None:
    """A setting without one would be copied for ever and understood by nobody."""
    for path in TEMPLATES.glob("*.pbtxt"):
        blocks = path.read_text(encoding="utf-8").split("\n\n")
        plain = ("name:", "backend:", "default_model_filename:", "input [", "output [")
        for block in blocks:
            lines = [line for line in block.strip().splitlines() if line]
            settings = [line for line in lines if not line.startswith(("#", *plain, " ", "]", "}"))]
            assert not settings or any(line.strip().startswith("#") for line in lines), (path.name, settings)


def test_a_model_for_triton_is_whole_and_takes_no_second_copy_of_the_weights(
    repository: Repository, tmp_path: Path
) -> None:
    written = write_triton_model(repository, tmp_path, "python", "motive-1")
    files = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert files == {"config.pbtxt", "1/model.onnx", "1/model.py"}
    assert (written / "1" / "model.onnx").read_bytes() == repository.onnx_path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["motive-1"]


def test_the_same_model_released_for_another_backend_gets_that_backends_config(
    repository: Repository, tmp_path: Path
) -> None:
    for backend in ("cuda", "tensorrt", "tensorrt"):
        written = write_triton_model(repository, tmp_path, backend, "motive-1")
        assert (written / "config.pbtxt").read_text() == config_text(repository, backend, "motive-1")


def test_what_lacks_its_config_is_made_anew(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "motive-1" / "1").mkdir(parents=True)
    written = write_triton_model(repository, tmp_path, "cpu", "motive-1")
    assert (written / "config.pbtxt").read_text() == config_text(repository, "cpu", "motive-1")
    assert (written / "1" / "model.onnx").is_file()


def test_a_full_disk_leaves_the_other_backends_model_whole(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    written = write_triton_model(repository, tmp_path, "cuda", "motive-1")
    monkeypatch.setattr(triton_repository, "link_or_copy", full)
    with pytest.raises(ConfigError, match="No space left"):
        write_triton_model(repository, tmp_path, "tensorrt", "motive-1")
    assert (written / "config.pbtxt").read_text() == config_text(repository, "cuda", "motive-1")
    assert (written / "1" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("triton://one:8001", "names no model"),
        ("triton://one:8001/motive", "needs repository"),
        ("triton://one/motive?repository=/m", "not HOST:PORT"),
        ("triton://one:1,one:1/motive?repository=/m", "twice"),
        ("triton://one:1/motive?repository=/m&colour=red", "nothing else"),
        ("onnx:", "names no model repository"),
        ("http://one:1/motive", "names no model"),
    ],
)
def test_an_engine_url_that_cannot_be_used_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_engine(text)


def test_an_engine_url_names_addresses_model_and_repository() -> None:
    url = parse_engine("triton://one:8001,[::1]:8001/motive?repository=/models")
    assert (url.addresses, url.model, url.path) == (("one:8001", "[::1]:8001"), "motive", Path("/models"))
