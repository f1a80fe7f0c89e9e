from torch import nn

from napari_wsss.models.replacing import with_replaced


def test_modules_at_every_depth_are_replaced_and_what_is_put_in_is_not_looked_at() -> None:
    inner = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))
    model = nn.Sequential(nn.ReLU(), inner)
    asked: list[nn.Module] = []

    def other(module: nn.Module) -> nn.Module | None:
        asked.append(module)
        return nn.Sequential(nn.ReLU()) if isinstance(module, nn.ReLU) else None

    assert with_replaced(model, other) is model
    assert [type(m[0]) for m in (model[0], inner[0])] == [nn.ReLU, nn.ReLU]
    assert isinstance(inner[1], nn.Conv2d)
    assert len(asked) == 4  # the two activations, the inner container, the convolution


def test_a_module_in_two_places_is_replaced_in_both() -> None:
    shared = nn.ReLU()
    model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(shared)})
    new = nn.Identity()
    with_replaced(model, {shared: new}.get)
    assert model["a"][0] is new
    assert model["b"][0] is new
