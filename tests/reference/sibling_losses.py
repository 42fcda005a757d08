"""Golden values of the sibling systems (tests/model/siblings_test.cpp): losses, and the sum of squares of each gradient, of the
same sine-wave inputs as the method's golden values.  usage: python3 sibling_losses.py"""
import math

import torch

import hybridmed_losses as L

torch.set_default_dtype(torch.float64)


def golden(shape, phi, a=1.0):
    n = math.prod(shape)
    return (a * torch.sin(0.37 * torch.arange(1, n + 1) + phi)).reshape(shape).requires_grad_()


def leaves():
    return dict(u=golden((3, 4), .1), v=golden((3, 4), .7), s=torch.tensor(math.log(1 / .07), requires_grad=True),
                p=golden((2, 5, 4), 1.3), w=golden((6, 4), 2.1), z=golden((9, 7), .5, 2.0))


def words(w):
    """Four words of text 0, two of text 1, padded."""
    padded = torch.zeros(2, 4, 4)
    padded[0, :], padded[1, :2] = w[:4], w[4:]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    return padded, mask


def gloria(x):
    padded, mask = words(x["w"])
    fixed = torch.tensor(math.log(10.0))
    return L.info_nce(x["u"], x["v"], fixed, reduction="sum") + L.gloria_local(x["p"], padded, mask, agg="sum", reduction="sum")


def coca(x):
    rows, target = torch.tensor([0, 1, 2, 3, 4, 6]), torch.tensor([3, 1, 2, 0, 6, 5])
    return L.info_nce(x["u"], x["v"], x["s"]) + 2 * torch.nn.functional.cross_entropy(x["z"][rows], target)


SYSTEMS = {"Clip": lambda x: L.info_nce(x["u"], x["v"], x["s"]), "ConVirt": lambda x: L.convirt(x["u"], x["v"]), "Gloria": gloria, "CoCa": coca}

for name, loss in SYSTEMS.items():
    x = leaves()
    value = loss(x)
    value.backward()
    squares = {k: 0.0 if t.grad is None else float((t.grad ** 2).sum()) for k, t in x.items()}
    print("%-8s loss %.12f  " % (name, value.item()) + "  ".join("%s %.12f" % item for item in squares.items()))
