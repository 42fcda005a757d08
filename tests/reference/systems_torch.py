"""Sibling systems as compositions of HybridMED's parts: clip, siglip, convirt, gloria, coca, mgca (README.md, "Sibling systems").

A system is a set of losses. It has exactly the parts that its losses read, under the names that HybridMED gives them;
`log_scale`, and for siglip `bias` and for mgca `prototypes`, stand beside them.
"""
import math

import torch
import torch.nn as nn

import hybridmed_losses as L
import hybridmed_torch as H

# tau: fixed temperature of the global loss (log_scale = -ln tau, not trained). sinkhorn_*: the defaults of L.sinkhorn.
HYPER = {
    "clip": dict(),
    "siglip": dict(scale_start=10.0, bias_start=-10.0),
    "convirt": dict(tau=0.1, alpha=0.75),
    "gloria": dict(tau=0.1, gamma1=4.0, gamma2=5.0, gamma3=10.0, local_agg="sum"),
    "coca": dict(),
    "mgca": dict(tau=0.07, token_tau=0.1, prototype_tau=0.2, sinkhorn_eps=0.05, sinkhorn_iterations=3),
}
WEIGHTS = {                                       # the losses of each system and their weights in the total
    "clip": {"cg": 1.0},
    "siglip": {"siglip": 1.0},
    "convirt": {"cg": 1.0},
    "gloria": {"cg": 1.0, "cl": 1.0},
    "coca": {"cg": 1.0, "cap": 2.0},
    "mgca": {"cg": 1.0, "token": 1.0, "prototype": 1.0},
}
NAMES = list(WEIGHTS)
CLAMPED = ("clip", "coca")                        # log_scale is trained and clamped after each update
LOCAL = ("gloria", "mgca")                        # image tokens of the aggregator against the words of the findings
CAPTION = ("coca",)


# -------------------------------------------------------------------------------------------------------------- losses
# x: u, v [B, d_e] un-normalised, present [B]; p [B, N, d_e], w [B, T, d_e], words [B, T]; logits_cap [B, T', V], target and
# cap [B, T']; log_scale, bias [], prototypes [K, d_e].
def clip(x):
    return {"cg": L.info_nce(x["u"], x["v"], x["log_scale"], x["present"])}


def siglip(x):
    rows = x["present"].nonzero(as_tuple=True)[0]
    return {"siglip": L.siglip(x["u"][rows], x["v"][rows], torch.exp(x["log_scale"]), x["bias"])}


def convirt(x):
    h = HYPER["convirt"]
    return {"cg": L.convirt(x["u"], x["v"], h["alpha"], h["tau"], x["present"])}


def gloria(x):
    h = HYPER["gloria"]
    cl = L.gloria_local(x["p"], x["w"], x["words"], h["gamma1"], h["gamma2"], h["gamma3"], h["local_agg"], reduction="sum")
    return {"cg": L.info_nce(x["u"], x["v"], x["log_scale"], x["present"], reduction="sum"), "cl": cl}


def coca(x):
    cap = L.token_cross_entropy(x["logits_cap"], x["target"], x["cap"])
    return {"cg": L.info_nce(x["u"], x["v"], x["log_scale"], x["present"]), "cap": cap}


def mgca(x):
    h = HYPER["mgca"]
    rows = x["present"].nonzero(as_tuple=True)[0]
    image_scores = L.unit(x["u"][rows]) @ x["prototypes"].t()
    text_scores = L.unit(x["v"][rows]) @ x["prototypes"].t()
    return {"cg": L.info_nce(x["u"], x["v"], x["log_scale"], x["present"], reduction="sum"),
            "token": L.mgca_tokenwise(x["p"], x["w"], x["words"], h["token_tau"]),
            "prototype": L.mgca_prototype(image_scores, text_scores, h["prototype_tau"])}


LOSSES = {"clip": clip, "siglip": siglip, "convirt": convirt, "gloria": gloria, "coca": coca, "mgca": mgca}


# --------------------------------------------------------------------------------------------------------------- model
class System(nn.Module):
    sections = H.HybridMED.sections               # the masks, a function of the batch

    def __init__(self, name, c, prototypes=12):
        super().__init__()
        self.name, self.config = name, c
        self.log_scale = nn.Parameter(torch.zeros(()), requires_grad="tau" not in HYPER[name])
        self.image = H.ENCODERS[c.encoder](c)
        self.text = H.TextEncoder(c)
        self.proj = H.Projections(c)
        if name in LOCAL:
            self.aggregator = H.FpnSum(c)
        else:
            del self.proj.text_local
        if name in CAPTION:
            self.memory = H.CaptionMemory(c)
            self.decoder = H.Decoder(c, ("cap",))
        if name == "siglip":
            self.bias = nn.Parameter(torch.zeros(()))
        if name == "mgca":
            self.prototypes = nn.Parameter(torch.zeros(prototypes, c.d_e))

    def losses(self, batch):
        """The separate losses, unweighted, and `total`."""
        s = self.sections(batch)
        x = dict(present=batch["has_impression"], log_scale=self.log_scale)
        image = self.image(batch["image"])
        i_tok, i_cls = self.text((batch["impression"], s["i_valid"]))[0]
        x["u"], x["v"] = self.proj.image_global(image["global"]), self.proj.text_global(i_cls)
        if self.name in LOCAL:
            f_tok = self.text((batch["findings"], None))[0]
            x.update(p=self.aggregator(image["levels"]), w=self.proj.text_local(f_tok), words=s["local"])
        if self.name in CAPTION:
            h = self.decoder(i_tok[:, :-1], [("cap", self.memory(image["levels"][3]), None)])[0]
            x.update(logits_cap=self.decoder.fc_cap(h), target=s["target"], cap=s["cap"])
        if self.name == "siglip":
            x["bias"] = self.bias
        if self.name == "mgca":
            x["prototypes"] = self.prototypes
        out = LOSSES[self.name](x)
        out["total"] = sum(WEIGHTS[self.name][k] * out[k] for k in WEIGHTS[self.name])
        return out

    @torch.no_grad()
    def constrain(self):
        """After every update."""
        if self.name in CLAMPED:
            self.log_scale.clamp_(0.0, self.config.log_scale_max)
        if self.name == "mgca":
            self.prototypes.copy_(L.unit(self.prototypes))


def start_values(name, c, weights, prototypes=12, seed=0):
    """What a system adds to the weights of HybridMED, in double: log_scale, and bias or prototypes (rows of length 1)."""
    h, double = HYPER[name], torch.float64
    if "tau" in h:
        out = {"log_scale": torch.tensor(-math.log(h["tau"]), dtype=double)}
    elif name == "siglip":
        out = {"log_scale": torch.tensor(math.log(h["scale_start"]), dtype=double),
               "bias": torch.tensor(h["bias_start"], dtype=double)}
    else:
        out = {"log_scale": weights["log_scale"].to(double)}
    if name == "mgca":
        draw = torch.randn(prototypes, c.d_e, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)
        out["prototypes"] = L.unit(draw.to(double))
    return out


def build(name, c, weights, extra, dtype=torch.float64):
    """weights: those of HybridMED, of which the system takes its parts; extra: start_values, which override them."""
    model = System(name, c, extra["prototypes"].shape[0] if name == "mgca" else 0).to(dtype)
    model.load_state_dict({n: extra[n] if n in extra else weights[n] for n in model.state_dict()})
    return model


# ------------------------------------------------------------------------------------------------------------ training
def gradients(model, batch):
    """Losses, with the gradient of the total in every parameter; a parameter that gets none has gradient 0."""
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    losses = model.losses(batch)
    losses["total"].backward()
    return {k: v.detach() for k, v in losses.items()}


def make_optimizer(model, **kw):
    return H.make_optimizer([(n, p) for n, p in model.named_parameters() if p.requires_grad], "chunked", **kw)


def update(model, batch, optimizer, clip_norm=1.0):
    """One step; returns the losses before it and the gradient norm before clipping."""
    losses = gradients(model, batch)
    norm = optimizer.step(clip_norm)
    model.constrain()
    return losses, norm
