#!/usr/bin/env python3
"""Check the exported toy models with a second implementation: numpy in float64, written apart from train.py, no torch.

    python scripts/models/verify.py --models models [--mutants]

It reads only what is shipped (config.json, model.safetensors, tokenizer.json, task.toml, reference.safetensors,
expected_predictions.json) and fails unless
 - its logits agree with every stored reference to 1e-4 of the largest logit,
 - every case is classified as `expected` with p >= 0.99, unpadded and padded to 64, 128 and 256,
 - expected_predictions.json says the same.
`--mutants` also prints how many answers change, and how far the reference logits move, when the model is computed
wrongly in a known way: what a verifier can hope to see on these models.
"""
import argparse
import json
import tomllib
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

TOLERANCE = 1e-4
MIN_PROB = 0.99


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def silu(x):
    return x / (1 + np.exp(-x))


def rms(x, w, eps=1e-6):
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + eps) * w


def rotate(x, theta, scale, interleaved=False):
    """x [T,Dh] as complex numbers turned by position * frequency; pairs are (j, j + Dh/2)."""
    t, dh = x.shape
    freq = theta ** (-2.0 * np.arange(dh // 2) / dh) / scale
    turn = np.exp(1j * np.outer(np.arange(t), freq))
    if interleaved:
        z = (x[:, 0::2] + 1j * x[:, 1::2]) * turn
        return np.stack([z.real, z.imag], -1).reshape(t, dh)
    z = (x[:, :dh // 2] + 1j * x[:, dh // 2:]) * turn
    return np.concatenate([z.real, z.imag], 1)


def student(w, cfg, ids, mask, wrong=None):
    """Logits [T,V] of one sequence. `wrong` names a deliberate mistake."""
    a = cfg["arch"]
    t, h, kv, dh = len(ids), a["n_heads"], a["n_kv_heads"], a["d_head"]
    causal = {"causal": True, "bidirectional": False}[cfg["attention"]]
    if wrong == "attention of the other kind":
        causal = not causal
    add = np.zeros((t, t))
    if wrong != "padding mask dropped":
        add[:, np.asarray(mask) == 0] += -1e4
    if causal:
        add[np.arange(t)[:, None] < np.arange(t)[None]] += -1e4
    scale = max(1.0, t / 2048) if a["rope_scaling"] == "dynamic" else 1.0
    x = w["embed.weight"][np.asarray(ids)]
    for i in range(a["n_layers"]):
        p = f"blocks.{i}."
        n = rms(x, w[p + "norm1.weight"] if wrong != "norm1 weight ignored" else 1.0)
        q, k, v = (n @ w[p + f"attn.{m}.weight"].T for m in ("wq", "wk", "wv"))
        heads = []
        for j in range(h):
            g = j % kv if wrong == "key/value heads tiled" else j // (h // kv)
            qj, kj, vj = q[:, j * dh:(j + 1) * dh], k[:, g * dh:(g + 1) * dh], v[:, g * dh:(g + 1) * dh]
            if wrong != "no RoPE":
                inter = wrong == "RoPE interleaved"
                qj, kj = rotate(qj, a["rope_theta"], scale, inter), rotate(kj, a["rope_theta"], scale, inter)
            if wrong == "attention scale left out":
                s = qj @ kj.T
            else:
                s = qj @ kj.T * dh ** -0.5
            heads.append(softmax(s + add) @ vj)
        x = x + np.concatenate(heads, 1) @ w[p + "attn.wo.weight"].T
        n = rms(x, w[p + "norm2.weight"])
        gate, up = n @ w[p + "mlp.w1.weight"].T, n @ w[p + "mlp.w3.weight"].T
        if wrong == "gate and up swapped":
            gate, up = up, gate
        x = x + (silu(gate) * up) @ w[p + "mlp.w2.weight"].T
    return rms(x, w["norm_f.weight"]) @ w["lm_head.weight"].T


WRONG = ["attention of the other kind", "no RoPE", "RoPE interleaved", "key/value heads tiled",
         "attention scale left out", "gate and up swapped", "norm1 weight ignored", "padding mask dropped",
         "answer read at the last pad", "weights int8, per row", "weights int4, per row"]


def block(w, cfg, x):
    t, d = x.shape
    h = cfg["n_heads"]
    n = rms(x, w["norm1.weight"], cfg["norm_eps"])
    out = []
    for j in range(h):
        s = slice(j * d // h, (j + 1) * d // h)
        q, k, v = ((n @ w[f"attn.{m}.weight"].T)[:, s] for m in ("wq", "wk", "wv"))
        out.append(softmax(q @ k.T * (d // h) ** -0.5) @ v)
    x = x + np.concatenate(out, 1) @ w["attn.wo.weight"].T
    n = rms(x, w["norm2.weight"], cfg["norm_eps"])
    return x + (silu(n @ w["mlp.w1.weight"].T) * (n @ w["mlp.w3.weight"].T)) @ w["mlp.w2.weight"].T


def quantise(w, bits):
    top = 2 ** (bits - 1) - 1
    out = {}
    for k, v in w.items():
        if v.ndim == 2:
            s = np.abs(v).max(1, keepdims=True) / top
            v = np.round(v / s) * s
        out[k] = v
    return out


def difference(got, want):
    assert got.shape == want.shape and np.isfinite(got).all() and np.isfinite(want).all()
    return float(np.abs(got - want).max() / np.abs(want).max())


def expected_shapes(a):
    d, kd, hd, v = a["d_model"], a["n_kv_heads"] * a["d_head"], a["n_heads"] * a["d_head"], a["vocab_size"]
    s = {"embed.weight": (v, d), "lm_head.weight": (v, d), "norm_f.weight": (d,)}
    for i in range(a["n_layers"]):
        p = f"blocks.{i}."
        s |= {p + "norm1.weight": (d,), p + "norm2.weight": (d,), p + "attn.wq.weight": (hd, d),
              p + "attn.wk.weight": (kd, d), p + "attn.wv.weight": (kd, d), p + "attn.wo.weight": (d, hd),
              p + "mlp.w1.weight": (4 * d, d), p + "mlp.w3.weight": (4 * d, d), p + "mlp.w2.weight": (d, 4 * d)}
    return s


def check_student(folder, mutants):
    cfg = json.loads((folder / "config.json").read_text())
    stored = load_file(folder / "model.safetensors")
    assert {k: v.shape for k, v in stored.items()} == expected_shapes(cfg["arch"])
    assert all(v.dtype == np.float16 and np.isfinite(v).all() for v in stored.values())
    w = {k: v.astype(np.float64) for k, v in stored.items()}
    params = sum(v.size for v in w.values())

    ref = load_file(folder / "reference.safetensors")
    count = sum(k.endswith("output.logits") for k in ref)

    def against_reference(weights, wrong=None):
        worst = 0.0
        for n in range(count):
            ids, mask = (ref[f"case{n}.input.{k}"][0] for k in ("input_ids", "attention_mask"))
            worst = max(worst, difference(student(weights, cfg, ids, mask, wrong), ref[f"case{n}.output.logits"][0]))
        return worst

    worst = against_reference(w)
    assert count >= 3 and worst <= TOLERANCE, worst

    task = tomllib.loads((folder / "task.toml").read_text())
    tok = Tokenizer.from_file(str(folder / task["tokenizer"]))
    names, class_ids = [c["name"] for c in task["classes"]], [c["token_id"] for c in task["classes"]]
    assert max(tok.get_vocab().values()) < min(200, *class_ids)
    rows = []
    for case in task["cases"]:
        ids = case["input_ids"] if "input_ids" in case else tok.encode(case["text"]).ids
        rows.append((case, ids, names.index(case["expected"])))
        if "text" in case:
            assert tok.decode(ids) == case["text"], case
    assert len({c["id"] for c, _, _ in rows}) == len(rows) and {y for _, _, y in rows} == set(range(len(names)))

    def answers(weights, length, wrong=None):
        out = []
        for _, ids, _ in rows:
            n = max(length or 0, len(ids))
            logits = student(weights, cfg, ids + [0] * (n - len(ids)), [1] * len(ids) + [0] * (n - len(ids)), wrong)
            at = -1 if wrong == "answer read at the last pad" else len(ids) - 1
            out.append(softmax(logits[at, class_ids]))
        return np.array(out)

    want = np.array([y for _, _, y in rows])
    least, first = 1.0, None
    for length in (None, 64, 128, 256):
        p = answers(w, length)
        right = p[np.arange(len(rows)), want]
        assert (p.argmax(1) == want).all() and right.min() >= MIN_PROB, (length, right.min())
        first = p if first is None else first
        assert np.abs(p - first).max() < 1e-9, "the answer depends on the padding"
        least = min(least, right.min())

    said = json.loads((folder / "expected_predictions.json").read_text())["predictions"]
    assert [s["id"] for s in said] == [c["id"] for c, _, _ in rows]
    for s, (case, _, y), p in zip(said, rows, first):
        assert s["predicted_class_id"] == class_ids[y] and s["predicted_class_name"] == names[y]
        assert s["question"] == case.get("text", s["question"])
        assert np.abs(np.array(s["class_probabilities"]) - p).max() < 1e-5
    print(f"{folder.name}: {params} parameters, {cfg['attention']}; logits agree to {worst:.1e}; {len(rows)}/{len(rows)} "
          f"right unpadded and at 64, 128, 256, least p {least:.6f}")
    for wrong in WRONG if mutants else ():
        weights = quantise(w, int(wrong.split("int")[1][0])) if wrong.startswith("weights int") else w
        p = answers(weights, 64, wrong)
        flips = int((p.argmax(1) != want).sum())
        kl = float((first * np.log(first / np.maximum(p, 1e-30))).sum(1).mean())
        print(f"    {wrong:30s} {flips:2d} of {len(rows)} answers change, mean KL {kl:8.2e}, "
              f"reference logits off by {against_reference(weights, wrong):.1e}")


def check_block(folder):
    cfg = json.loads((folder / "config.json").read_text())
    w = {k: v.astype(np.float64) for k, v in load_file(folder / "model.safetensors").items()}
    ref = load_file(folder / "reference.safetensors")
    worst = max(difference(block(w, cfg, ref[f"case{n}.input.x"][0].astype(np.float64)), ref[f"case{n}.output.y"][0])
                for n in range(2))
    assert worst <= TOLERANCE, worst
    print(f"{folder.name}: {sum(v.size for v in w.values())} parameters; output agrees to {worst:.1e}")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--models", type=Path, required=True)
    ap.add_argument("--mutants", action="store_true")
    args = ap.parse_args()
    for name in ("8ball", "binary", "ternary"):
        check_student(args.models / name, args.mutants)
    check_block(args.models / "toy-block")


if __name__ == "__main__":
    main()
