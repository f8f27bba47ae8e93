"""The U-Net of diffusers, rebuilt: memory used again, and another layout, change neither values nor derivatives."""

import pytest
import torch

from scorefield.nets.published.unet2d import UNet2D, UNet2DConfig

SHAPE = (2, 8, 12)


def built(act_fn: str, conditioned: str, middle: float) -> UNet2D:
    torch.manual_seed(0)
    settings = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1, "attention_head_dim": 4}
    config = UNet2DConfig(**settings, act_fn=act_fn, resnet_time_scale_shift=conditioned, mid_block_scale_factor=middle)  # type: ignore[arg-type]
    network = config.build(SHAPE).double()
    assert isinstance(network, UNet2D)
    return network


@pytest.mark.parametrize("act_fn", ["silu", "gelu"])
@pytest.mark.parametrize(("conditioned", "middle"), [("default", 1.0), ("scale_shift", 1.4)])
def test_values_without_gradients_in_either_layout_are_those_with_them_and_derivatives_are_those_of_differences(
    act_fn: str, conditioned: str, middle: float
) -> None:
    network = built(act_fn, conditioned, middle)
    x, v = torch.randn(2, 3, *SHAPE, dtype=torch.float64)
    given, label, step = x.clone(), torch.tensor([0.0, 3.0, 900.0], dtype=torch.float64), 1e-5
    x.requires_grad_()
    y = network(x, label)
    with torch.no_grad():
        alone = network(x, label)
        others = network(x.contiguous(memory_format=torch.channels_last), label)
        ahead, behind = (network(x + way * step * v, label) for way in (1, -1))
    assert torch.equal(x, given) and torch.equal(alone, y) and alone.is_contiguous()
    torch.testing.assert_close(others, y, rtol=1e-12, atol=1e-12)
    rows = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in network.named_parameters()}
    with torch.no_grad():
        torch.testing.assert_close(torch.func.functional_call(network, rows, (x, label)), y, rtol=1e-12, atol=1e-12)

    def slope(x: torch.Tensor) -> torch.Tensor:
        (found,) = torch.autograd.grad(network(x, label).square().sum(), x, create_graph=True)
        return found

    first = slope(x)
    change = (ahead.square() - behind.square()).sum() / (2 * step)
    torch.testing.assert_close((first * v).sum(), change, rtol=1e-6, atol=0)
    (second,) = torch.autograd.grad((first * v).sum(), x)
    differences = (slope(x + step * v) - slope(x - step * v)).detach() / (2 * step)
    torch.testing.assert_close(second, differences, rtol=1e-5, atol=1e-6 * float(differences.abs().max()))
