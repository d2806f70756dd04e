"""What a phone told as rounds, protocol and failures; ModelBench's aggregate; the four compute units."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from device_agents.forms import FormError
from device_agents.job import read_sets
from device_agents.modelbench import aggregate, drift
from device_agents.placement import by_block, shares
from device_agents.rounds import Compared, check_outputs, rounds_of
from device_agents.simulated_engine import DEFAULT_OPERATIONS
from runners.measurement import Top1


def test_rounds_carry_the_raw_samples_and_a_protocol_of_their_own(bench):
    one = bench()
    taken = one.run()
    rounds = rounds_of(taken, driver="iphone", outputs=Compared(0.5, Top1(3, 4)))
    assert [r.round_index for r in rounds] == [0, 1, 2]
    for found, body in zip(rounds, taken.rounds, strict=True):
        assert tuple(found.samples_ns) == body.samples_ns
        assert found.samples_ns.dtype == np.int64
        assert found.protocol.clock == "device"
        assert found.protocol.backend == "coreml"
        assert found.protocol.compute_unit == "all"
        assert (found.output_error, found.top1) == (0.5, Top1(3, 4))
        assert found.phases.load_ns == 40_000_000
    assert rounds[0].environment["device"]["cold_load_ns"] == [300_000_000]
    assert rounds_of(taken, driver="simulated", outputs=Compared())[0].protocol.clock == "simulated"


def test_each_compute_unit_and_way_of_launching_has_its_own_protocol(bench):
    protocols = {
        rounds_of(bench(name=f"{unit}{per}", compute_unit=unit, rounds_per_launch=per).run(), driver="iphone",
                  outputs=Compared(0.0))[0].protocol.id
        for unit in ("cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
        for per in (1, 3)
    }  # fmt: skip
    assert len(protocols) == 8


def test_a_throttled_phone_is_flagged(bench):
    from device_agents.simulated_phone import Fault

    one = bench(Fault("throttle", "prediction", 60))
    flags = [found.flags for found in rounds_of(one.run(), driver="iphone", outputs=Compared(0.0))]
    assert flags == [(), ("throttled",), ("throttled",)] or flags[-1] == ("throttled",)
    slow = one.run().rounds[-1]
    assert min(slow.samples_ns) >= 3_000_000


def test_a_model_that_left_the_neural_engine_is_flagged(bench):
    one = bench()
    one.phone.engine.falls_back = True
    assert {f.flags for f in rounds_of(one.run(), driver="iphone", outputs=Compared(0.0))} == {
        ("off_neural_engine",)
    }
    cpu = bench(name="cpu", compute_unit="cpuOnly")
    assert rounds_of(cpu.run(), driver="iphone", outputs=Compared(0.0))[0].flags == ()


def test_a_phone_that_stood_still_in_a_round_is_flagged(bench):
    one = bench()
    engine, told, stops_ns = one.phone.engine, one.phone.engine.on_predict, [500_000_000]

    def predicted() -> None:
        told()
        if engine.predictions == 22 and stops_ns:
            engine.now_ns += stops_ns.pop()

    engine.on_predict = predicted
    first, *others = rounds_of(one.run(), driver="iphone", outputs=Compared(0.0))
    assert first.flags == ("disturbed",)
    assert first.environment["disturbances"][0].startswith("one sample lasted 502 ms")
    assert [(other.flags, "disturbances" in other.environment) for other in others] == [((), False)] * 2


def test_low_power_mode_is_flagged(bench):
    one = bench()
    one.phone.engine.reading = replace(one.phone.engine.reading, low_power_mode=True)
    assert "low_power_mode" in rounds_of(one.run(), driver="iphone", outputs=Compared(0.0))[0].flags


def test_outputs_are_compared_with_the_references(bench):
    one = bench()
    taken = one.run()
    inputs = one.job.inputs
    references = [values for (values,) in read_sets(taken.outputs, inputs.tensors, inputs.sets)]
    found = check_outputs(taken, references, tolerance=1e-6)
    assert (found.error, found.failure) == (0.0, None)
    positions = sum(value.size // value.shape[1] for value in references)
    assert found.top1 == Top1(positions, positions)
    found = check_outputs(taken, [2 * references[0], references[1]], tolerance=0.1)
    assert found.error == pytest.approx(0.5)
    assert found.top1 == Top1(positions, positions)  # the largest channel of a doubled output stays it
    assert found.failure.kind == "wrong_output"
    assert "cpuOnly" in found.failure.advice
    broken = [references[0], np.full_like(references[1], np.nan)]
    found = check_outputs(taken, broken, tolerance=0.1)
    assert math.isnan(found.error)
    assert found.failure.kind == "wrong_output"
    found = check_outputs(taken, [references[0], references[1][:, :1]], tolerance=0.1)
    assert "shape" in found.failure.message
    assert found.top1 is None


def test_an_output_file_of_another_length_is_refused(bench):
    inputs = bench().job.inputs
    with pytest.raises(FormError, match="bytes are not"):
        read_sets(b"123", inputs.tensors, inputs.sets)


def rounds_with(values, count, bench):
    template = rounds_of(bench(name=f"t{count}").run(), driver="iphone", outputs=Compared(0.0))[0]
    return [replace(template, samples_ns=np.array(values, dtype=np.int64)) for _ in range(count)]


def test_modelbench_is_the_mean_of_980_of_1000(bench):
    values = [1_000_000] * 49 + [90_000_000]  # 20 slow ones: 10 are trimmed, 10 stay
    found = aggregate(rounds_with(values, 20, bench))
    assert found.used == 980
    assert found.complete
    assert found.mean_ns == pytest.approx((970 * 1_000_000 + 10 * 90_000_000) / 980)


def test_modelbench_of_fewer_samples_is_marked_and_of_too_few_is_none(bench):
    assert not aggregate(rounds_with([1_000_000] * 50, 3, bench)).complete
    assert not aggregate(rounds_with([1_000_000] * 49, 20, bench)).complete
    assert aggregate(rounds_with([1_000_000] * 10, 2, bench)) is None
    assert aggregate([]) is None
    looped = [replace(r, loop_count=2) for r in rounds_with([1_000_000] * 50, 20, bench)]
    assert aggregate(looped) is None


def test_drift_is_the_last_third_against_the_first(bench):
    (one,) = rounds_with([100] * 10 + [105] * 10 + [110] * 10, 1, bench)
    assert drift(one) == pytest.approx(0.1)
    assert drift(replace(one, samples_ns=one.samples_ns[:5])) == 0.0


def test_shares_leave_constants_out_and_add_up():
    found = {share.place: share for share in shares(DEFAULT_OPERATIONS)}
    assert found.keys() == {"neural_engine", "cpu"}
    assert sum(share.cost_ppb for share in found.values()) == 1_000_000_000
    assert sum(share.operations for share in found.values()) == 3
    blocks = by_block(DEFAULT_OPERATIONS, {"x_1": "stages.0", "x_2": "stages.0"})
    assert [share.place for share in blocks["stages.0"]] == ["neural_engine"]
    assert [share.place for share in blocks[""]] == ["cpu"]
