"""Writes the golden sets of the sibling systems (README.md, "Sibling systems"), in double, from weights and batch of golden/tiny.

usage: python3 export_systems.py [--base golden/tiny] [--out golden/systems] [--limit 320]
"""
import argparse
import json
import os

import torch

import export_golden as E
import hybridmed_torch as H
import safetensors_io as st
import systems_torch as S

PROTOTYPES, SEED = 12, 43


def describe(model, base, extra):
    name = model.name
    clamp = {"log_scale_min": 0.0, "log_scale_max": model.config.log_scale_max} if name in S.CLAMPED else {}
    return dict(system=name, base=base, losses=list(S.WEIGHTS[name]), loss_weights=S.WEIGHTS[name], hyper=S.HYPER[name],
                K=PROTOTYPES if name == "mgca" else 0, log_scale_trained=model.log_scale.requires_grad,
                log_scale_start=float(extra["log_scale"]), **clamp,
                adamw=dict(lr=E.LR, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.05, clip=E.CLIP),
                no_decay=[n for n, p in model.named_parameters() if not H.decays(n, p)],
                fixed=[n for n, p in model.named_parameters() if not p.requires_grad],
                parameters=[n for n, _ in model.named_parameters()])


def export(name, base, out, limit):
    c, weights, batch = E.load_set(base)
    extra = S.start_values(name, c, weights, PROTOTYPES, SEED)
    model = S.build(name, c, weights, extra)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "config.json"), "w") as f:
        json.dump(describe(model, os.path.basename(os.path.normpath(base)), extra), f, indent=1)
    st.save(os.path.join(out, "weights.safetensors"), extra)
    with E.kept_statistics(model):
        S.gradients(model, batch)
    E.write(os.path.join(out, "grads.safetensors"), {n: p.grad for n, p in model.named_parameters()}, limit)
    optimizer = S.make_optimizer(model, lr=E.LR)
    report = {"dtype": "float64", "lr": E.LR, "clip": E.CLIP, "steps": E.STEPS, "updates": []}
    for _ in range(E.STEPS):
        losses, norm = S.update(model, batch, optimizer, E.CLIP)
        report["updates"].append(dict(E.numbers(losses), grad_norm=norm, log_scale_after=float(model.log_scale.detach())))
    E.write(os.path.join(out, "after_%d_steps.safetensors" % E.STEPS), E.state(model), limit)
    model.eval()
    with torch.no_grad():
        report["final"] = E.numbers(model.losses(batch))
    with open(os.path.join(out, "losses.json"), "w") as f:
        json.dump(report, f, indent=1)
    size = sum(os.path.getsize(os.path.join(out, f)) for f in os.listdir(out))
    first, final = ({k: round(v, 6) for k, v in x.items()} for x in (report["updates"][0], report["final"]))
    print(json.dumps({"system": name, "bytes": size, "first": first, "final": final}))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    a = argparse.ArgumentParser()
    a.add_argument("--base", default=os.path.join(here, "golden", "tiny"))
    a.add_argument("--out", default=os.path.join(here, "golden", "systems"))
    a.add_argument("--limit", type=int, default=320)
    a = a.parse_args()
    torch.set_num_threads(1)
    for name in S.NAMES:
        export(name, a.base, os.path.join(a.out, name), a.limit)


if __name__ == "__main__":
    main()
