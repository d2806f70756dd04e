"""Synthetic but realistic stored runs: eleven blocks at four stages, and networks on two backends.

Everything comes from a seeded generator, so that every test sees the same nanoseconds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from converters.artifact import Artifact, Parity, Step, TensorInfo
from models.spec import Case, ModelSpec, digest
from reports.records import CaseResult, RunInfo, Session, StoredRun
from runners.measurement import Failure, Phases, Protocol, Round

START_NS = 1_763_689_800_000_000_000
STAGES = ((56, 96), (28, 192), (14, 384), (7, 768))

# name -> (GMACs, M parameters) at 14x14x384, and the GMAC/s that one core reaches on it
BLOCKS = {
    "block/ncb": (0.2073, 1.058, 96.0),
    "block/ntb": (0.2481, 1.402, 71.0),
    "block/bottleneck": (0.2029, 1.036, 95.0),
    "block/convnext": (0.2349, 1.198, 64.0),
    "block/transformer": (0.3766, 1.774, 75.0),
    "block/lsa": (0.3650, 1.774, 52.0),
    "block/poolformer": (0.2312, 1.181, 88.0),
    "block/mbconv": (0.2418, 1.233, 69.0),
    "block/repvgg": (0.2601, 1.327, 117.0),
    "block/mobileone": (0.1552, 0.793, 71.9),
    "block/efficientformer4d": (0.2312, 1.181, 88.4),
}

# name -> (GMACs, M parameters, GMAC/s of onnxruntime, GMAC/s of openvino)
NETWORKS = {
    "nextvit_small": (5.80, 31.7, 118.0, 123.0),
    "nextvit_base": (8.30, 44.8, 121.0, 126.0),
    "nextvit_large": (10.80, 57.8, 122.0, 128.0),
    "timm/convnext_tiny": (4.47, 28.6, 84.0, 97.0),
    "timm/resnet50": (4.09, 25.6, 131.0, 138.0),
    "timm/swin_tiny_patch4_window7_224": (4.50, 28.3, 66.0, 71.0),
    "timm/mobilenetv2_100": (0.30, 3.5, 38.0, 43.0),
    "timm/efficientformer_l1": (1.30, 12.3, 73.0, 80.0),
}

ENVIRONMENT = {
    "fingerprint": "5e1f0c7a9b3d2468",
    "cpu": {
        "model": "Example Server CPU @ 2.60GHz",
        "architecture": "x86_64",
        "logical_cores": 8,
        "physical_cores": 4,
        "smt_active": True,
        "affinity": [0, 1, 2, 3, 4, 5, 6, 7],
        "governor": "performance",
        "khz_min": 800_000,
        "khz_max": 2_600_000,
        "turbo_off": True,
        "caches": {"L1 Data": "48K", "L2 Unified": "2048K", "L3 Unified": "36864K"},
        "features": ["avx2", "avx512f", "avx512_vnni"],
    },
    "memory": {"total_bytes": 33_554_432_000, "limit_bytes": None},
    "gpus": [],
    "system": {"os": "Debian GNU/Linux 12 (bookworm)", "kernel": "Linux 6.1.0", "container": False},
    "python": {"version": "3.11.9", "implementation": "CPython"},
    "packages": {"onnx": "1.23.0", "onnxruntime": "1.31.0", "torch": "2.14.1"},
    "revision": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False},
}


def protocol(backend: str = "onnxruntime", *, threads: int = 1) -> Protocol:
    return Protocol(
        backend=backend,
        runtime=f"{backend} 1.31.0 graph_optimization=all",
        device="cpu",
        threads=threads,
        clock="host",
        sync="blocking call",
        timed="inference, inputs already in memory",
        inputs="normal(0, 1), 4 tensors in rotation, seed 0",
        warmup="0.2 s, then until two windows agree, 3 s at most",
        min_sample_ns=1_000_000,
    )


def make_round(
    median_ns: float,
    *,
    index: int = 0,
    count: int = 60,
    spread: float = 0.012,
    seed: int = 0,
    backend: str = "onnxruntime",
    attempt: int = 0,
    modes: float = 0.0,
    **changes: object,
) -> Round:
    """One round of lognormal samples about a median; `modes` adds a second mode that much slower."""
    random = np.random.default_rng([seed, index, attempt])
    loops = max(1, round(1.2e6 / median_ns))
    times = median_ns * loops * np.exp(random.normal(0.0, spread, count))
    times *= np.where(random.random(count) < 0.45, 1.0 + modes, 1.0)
    times[random.random(count) < 0.02] *= 1.15
    warmup = median_ns * loops * (1.0 + 0.6 * np.exp(-np.arange(12) / 3.0))
    timed = int(times.sum())
    made = Round(
        round_index=index,
        position=int(random.integers(0, 40)),
        attempt=attempt,
        protocol=protocol(backend),
        loop_count=loops,
        samples_ns=times.astype(np.int64),
        warmup_ns=warmup.astype(np.int64),
        steady=True,
        output_error=3.1e-7,
        phases=Phases(
            38_000_000, 92_000_000, 31_000_000, 12_000_000, 210_000_000, timed, timed + 480_000_000
        ),
        started_at_ns=START_NS + index * 60_000_000_000,
        environment={"before": {"load": 0.4}, "after": {"load": 0.6}},
        peak_rss_bytes=182_000_000,
    )
    return replace(made, **changes)


def rounds_of(median_ns: float, *, count: int = 5, between: float = 0.004, seed: int = 0, **options) -> tuple:
    random = np.random.default_rng([seed, 99])
    centres = median_ns * np.exp(random.normal(0.0, between, count))
    return tuple(make_round(float(c), index=i, seed=seed, **options) for i, c in enumerate(centres))


def make_artifact(case: Case, gmacs: float, params_m: float, *, passed: bool = True) -> Artifact:
    error = 6.2e-7 if passed else 4.1e-2
    parities = [Parity(2.1e-6, 3.0e-7, 1.0, 1.0, 1e-4), Parity(3.3e-6, error, 0.9999998, 1.0, 1e-4)]
    steps = [
        Step("exported", "torch.onnx dynamo 2.14.1", parities[1], 2_100_000_000, "opset 20"),
        Step("simplified", "onnxsim 0.8.1", parities[1], 310_000_000, "61 to 34 nodes"),
    ]
    if case.fused:
        steps.insert(
            0, Step("fused", "reparameterize", parities[0], 41_000_000, "BatchNorm into convolutions")
        )
    key = digest({"case": case.to_dict()})
    return Artifact(
        kind="onnx",
        path=Path(f"artifacts/{key[:16]}.onnx"),
        sha256=digest(["file", key]),
        size_bytes=int(4e6 * params_m) + 2048,
        key=key,
        model=case.model,
        batch_size=case.batch_size,
        precision=case.precision,
        fused=case.fused,
        inputs=(TensorInfo("input", "float32", case.model.input_shape(case.batch_size)),),
        outputs=(TensorInfo("output", "float32", case.model.input_shape(case.batch_size)),),
        tensors=Path(f"artifacts/{key[:16]}.npz"),
        tensors_sha256=digest(["tensors", key]),
        seed=0,
        params_m=params_m,
        gmacs=gmacs,
        steps=tuple(steps),
        batchnorms_left=0 if case.fused else 4,
        folded={"conv_bn": 3, "bn_into_next": 1} if case.fused else {},
        op_counts={"Conv": 5, "Relu": 2, "Add": 2, **({} if case.fused else {"BatchNormalization": 4})},
        toolchain={"torch": "2.14.1", "onnx": "1.23.0"},
        conversion_ns=2_600_000_000,
    )


def block_case(name: str, resolution: int, channels: int, *, fused: bool = True) -> Case:
    return Case(ModelSpec.of(name, resolution=resolution, in_channels=channels), "onnxruntime", fused=fused)


def measured(case: Case, gmacs: float, params_m: float, rate: float, *, seed: int, **options) -> CaseResult:
    rounds = rounds_of(gmacs / rate * 1e9, seed=seed, backend=case.backend, **options)
    artifact = make_artifact(case, gmacs, params_m)
    return CaseResult(case, artifact, rounds, None, len(rounds), rounds[-1].protocol.id)


def run_of(results: list[CaseResult], *, suite: str = "blocks", command: str = "") -> StoredRun:
    info = RunInfo(
        run_id=3,
        suite=suite,
        plan_digest=digest([r.case.id for r in results]),
        seed=7,
        started_at_ns=START_NS,
        finished_at_ns=START_NS + 412_000_000_000,
        command=command or f"python bench.py --suite {suite}",
        config={"timing": {"min_rounds": 5, "max_rounds": 20, "target": 0.01}},
        environment=ENVIRONMENT,
        case_ids=tuple(r.case.id for r in results),
    )
    phases = [r.phases for result in results for r in result.rounds]
    totals = {
        f"{name}_ns": sum(getattr(p, f"{name}_ns") for p in phases)
        for name in ("start", "import", "load", "verify", "warmup", "timed")
    }
    totals["conversion_ns"] = sum(r.artifact.conversion_ns for r in results if r.artifact)
    totals["parent_ns"] = 9_000_000 * len(phases)
    wall = int(sum(totals.values()) * 1.006)
    return StoredRun(info, tuple(results), (Session(1, 3, START_NS, wall, totals),))


def blocks_run() -> StoredRun:
    """55 cases: 44 fused, 11 unfused, of which one failed, one is noisy, one did not converge."""
    results = []
    for side, channels in STAGES:
        for place, (name, facts) in enumerate(BLOCKS.items()):
            case = block_case(name, side, channels)
            results.append(measured(case, *_at_stage(name, facts, side), seed=side * 100 + place))
    for place, (name, (gmacs, params_m, rate)) in enumerate(BLOCKS.items()):
        case = block_case(name, 14, 384, fused=False)
        results.append(measured(case, gmacs, params_m, rate / (1.02 + 0.03 * place), seed=9000 + place))
    by_label = {r.case.label: place for place, r in enumerate(results)}
    _spoil(results, by_label)
    return run_of(results)


def _at_stage(name: str, facts: tuple[float, float, float], side: int) -> tuple[float, float, float]:
    """Convolution costs the same at every stage; global attention costs more where tokens are many."""
    gmacs, params_m, rate = facts
    scale = (14 / side) ** 2
    tokens = 1.0 + 0.35 * max(0.0, side / 14 - 1.0) if "transformer" in name or "ntb" in name else 1.0
    slower = {56: 0.72, 28: 0.9, 14: 1.0, 7: 0.93}[side]
    if name == "block/convnext" and side == 7:
        slower = 1.35
    return gmacs * tokens, params_m * scale, rate * slower


def _spoil(results: list[CaseResult], by_label: dict[str, int]) -> None:
    noisy = by_label["block/mbconv 28x28x192 fp32 onnxruntime"]
    case, artifact = results[noisy].case, results[noisy].artifact
    rounds = rounds_of(3.9e6, seed=5, modes=0.19, between=0.01)
    results[noisy] = CaseResult(case, artifact, rounds, None, 5, rounds[-1].protocol.id)

    wide = by_label["block/lsa 56x56x96 fp32 onnxruntime"]
    case, artifact = results[wide].case, results[wide].artifact
    rounds = rounds_of(9.75e6, seed=6, between=0.05, count=8)
    results[wide] = CaseResult(case, artifact, rounds, None, 8, rounds[-1].protocol.id)

    failed = by_label["block/transformer 56x56x96 fp32 onnxruntime"]
    failure = Failure(
        "out_of_memory",
        "the measuring process was killed at 2.1 GiB: attention over 3136 tokens needs a 3136 x 3136 matrix",
        "Give the process more memory, or measure this block from stage 3 on.",
        signal=9,
        round_index=0,
        built=True,
    )
    results[failed] = CaseResult(results[failed].case, results[failed].artifact, (), failure, 1)


def networks_run() -> StoredRun:
    """Eight networks on two backends; swin does not convert for one, and one artifact misses its parity."""
    results = []
    for place, (name, (gmacs, params_m, *rates)) in enumerate(NETWORKS.items()):
        for backend, rate in zip(("onnxruntime", "openvino"), rates, strict=True):
            case = Case(ModelSpec.of(name), backend)
            results.append(measured(case, gmacs, params_m, rate, seed=300 + place, count=6))
    swin = next(i for i, r in enumerate(results) if "swin" in r.case.label and r.case.backend == "openvino")
    failure = Failure(
        "conversion",
        "aten::alias has no translation (module layers.0.blocks.0.attn, line 142 of the network's file)",
        "Export with the other exporter, or leave this network out for this backend.",
        detail={"operator": "aten::alias"},
    )
    results[swin] = CaseResult(results[swin].case, None, (), failure, 1)
    former = next(i for i, r in enumerate(results) if "efficientformer" in r.case.label)
    broken = make_artifact(results[former].case, 1.30, 12.3, passed=False)
    results[former] = replace(results[former], artifact=broken)
    return run_of(results, suite="variants")
