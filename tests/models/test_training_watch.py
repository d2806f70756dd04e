"""When a loss or gradients that are not finite end a training, and when fp16 may leave a step out."""

from __future__ import annotations

import pytest
import torch

from models.training_request import TrainingStopped
from models.training_watch import MAX_SKIPPED, Seen, Watch

INF, NAN = float("inf"), float("nan")


def watched(norms: list[float], *, scaled: bool, loss: float = 1.0) -> list[Seen]:
    """What a watch saw of steps with these norms."""
    watch = Watch(lambda step: f"step {step}", lambda: "kept", scaled=scaled)
    seen = []
    for step, norm in enumerate(norms):
        watch.begin(step, rate=0.1, loss=torch.tensor(loss), norm=torch.tensor(norm))
        seen.append(watch.settle())
    assert watch.settle() is None
    return seen


def test_it_tells_what_each_step_gave():
    assert watched([2.0, 3.0], scaled=False) == [Seen(0, 0.1, 1.0, 2.0), Seen(1, 0.1, 1.0, 3.0)]


@pytest.mark.gpu
def test_on_a_gpu_a_step_is_seen_while_the_next_one_works():
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    watch = Watch(lambda step: f"step {step}", lambda: "kept", scaled=False)
    watch.begin(0, rate=0.1, loss=torch.tensor(1.0, device="cuda"), norm=torch.tensor(2.0, device="cuda"))
    torch.cuda._sleep(2 * 10**9)  # cycles: about a second
    queued = torch.cuda.Event()
    queued.record()
    assert watch.settle() == Seen(0, 0.1, 1.0, 2.0)
    assert not queued.query()
    torch.cuda.synchronize()


@pytest.mark.parametrize("loss", [NAN, INF])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_loss_that_is_not_finite_stops_at_once(loss, scaled):
    with pytest.raises(TrainingStopped, match=r"the loss is not finite in step 0: lower lr .*; kept"):
        watched([1.0], scaled=scaled, loss=loss)


@pytest.mark.parametrize("norm", [NAN, INF])
def test_gradients_that_are_not_finite_stop_at_once_where_nothing_is_scaled(norm):
    with pytest.raises(TrainingStopped, match="the norm of the gradients is not finite in step 1: lower lr"):
        watched([1.0, norm], scaled=False)


def test_fp16_may_leave_steps_out_while_its_scale_is_sought():
    """A new scale begins at 65536, and one that grew too large is halved: both end with a finite norm."""
    almost = [INF] * (MAX_SKIPPED - 1)
    assert len(watched([*almost, 1.0, *almost, 1.0], scaled=True)) == 2 * MAX_SKIPPED
    with pytest.raises(TrainingStopped, match=rf"not finite, {MAX_SKIPPED} steps in a row .* in step 31:"):
        watched([*almost, NAN], scaled=True)


def test_the_longest_search_of_pytorchs_scaler_is_shorter():
    """From its first scale to one at which fp16, up to 65504, holds gradients as large as 1e9."""
    scale = torch.amp.GradScaler("cpu").state_dict()["scale"]
    assert 1e9 * scale / 2 ** (MAX_SKIPPED - 1) < 65504
