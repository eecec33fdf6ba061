#!/usr/bin/env python3
"""Train and export the toy models under `models/`: 8ball, binary, ternary and toy-block.

    python -m venv venv && venv/bin/pip install -r scripts/models/requirements.txt
    venv/bin/python scripts/models/train.py --out models            # all four, a few minutes on one CPU core
    venv/bin/python scripts/models/train.py --out models --only binary
    venv/bin/python scripts/models/verify.py --models models        # independent numpy check, a fresh process

8ball, binary and ternary are StudentLMs (a GQA transformer: RMSNorm, half-split RoPE, SwiGLU, untied head, no
biases) that are trained until they know the answer to every question of `tasks.py` by heart. They are fixtures
for a converter, not models of anything: the training questions are the task's cases, and there is no held-out set.
toy-block is one transformer block with random, seeded weights.

Each run is seeded and single-threaded: on one machine and with the pinned versions two runs give the same bytes.
On another CPU the last bits of a float, and so the bytes, may differ.
"""
import argparse
import hashlib
import json
import math
import platform
import sys
from pathlib import Path

import numpy as np
import tokenizers
import torch
import torch.nn as nn
import torch.nn.functional as F
import safetensors
from safetensors.numpy import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tasks import TASKS  # noqa: E402

ARCH = {
    "d_model": 128,
    "n_layers": 2,
    "n_heads": 4,
    "n_kv_heads": 2,
    "d_head": 32,
    "vocab_size": 512,
    "rope_theta": 10000.0,
    "rope_scaling": "dynamic",
}
NORM_EPS = 1e-6
MASK_FILL = -1e4  # additive, on masked keys
PAD_ID, UNK_ID = 0, 1
TEXT_IDS = 190  # every text token id is below this; the class ids start at 200
PARAMS = 623_232
MIN_PROB = 0.99  # what every case must reach on the stored weights
TARGET_PROB = 0.996  # the soft target: sure, but not so sure that a drift cannot be seen in the probabilities
STEPS = 400


# ---------------------------------------------------------------- the model

class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + NORM_EPS)


def rope(x, theta, scale):
    """Half-split (rotate_half) layout; x is [B,H,T,Dh]; positions 0..T-1 divided by `scale`."""
    t, half = x.shape[-2], x.shape[-1] // 2
    inv = theta ** (-torch.arange(half, dtype=torch.float32) / half) / scale
    ang = torch.arange(t, dtype=torch.float32)[:, None] * inv[None]
    cos, sin = ang.cos().to(x.dtype), ang.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    def __init__(self, a):
        super().__init__()
        d, h, k, dh = a["d_model"], a["n_heads"], a["n_kv_heads"], a["d_head"]
        self.h, self.k, self.dh, self.theta = h, k, dh, a["rope_theta"]
        self.wq = nn.Linear(d, h * dh, bias=False)
        self.wk = nn.Linear(d, k * dh, bias=False)
        self.wv = nn.Linear(d, k * dh, bias=False)
        self.wo = nn.Linear(h * dh, d, bias=False)

    def forward(self, x, bias):
        b, t, _ = x.shape
        scale = max(1.0, t / 2048)  # rope_scaling "dynamic"
        q = rope(self.wq(x).view(b, t, self.h, self.dh).transpose(1, 2), self.theta, scale)
        k = rope(self.wk(x).view(b, t, self.k, self.dh).transpose(1, 2), self.theta, scale)
        v = self.wv(x).view(b, t, self.k, self.dh).transpose(1, 2)
        k = k.repeat_interleave(self.h // self.k, 1)
        v = v.repeat_interleave(self.h // self.k, 1)
        p = (q @ k.transpose(-1, -2) / math.sqrt(self.dh) + bias).softmax(-1)
        return self.wo((p @ v).transpose(1, 2).reshape(b, t, self.h * self.dh))


class Mlp(nn.Module):
    def __init__(self, d, hidden):
        super().__init__()
        self.w1 = nn.Linear(d, hidden, bias=False)  # gate
        self.w3 = nn.Linear(d, hidden, bias=False)  # up
        self.w2 = nn.Linear(hidden, d, bias=False)  # down

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self, a):
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(a["d_model"]), RMSNorm(a["d_model"])
        self.attn, self.mlp = Attention(a), Mlp(a["d_model"], 4 * a["d_model"])

    def forward(self, x, bias):
        x = x + self.attn(self.norm1(x), bias)
        return x + self.mlp(self.norm2(x))


class StudentLM(nn.Module):
    def __init__(self, a, attention):
        super().__init__()
        self.attention = attention
        self.embed = nn.Embedding(a["vocab_size"], a["d_model"])
        self.blocks = nn.ModuleList(Block(a) for _ in range(a["n_layers"]))
        self.norm_f = RMSNorm(a["d_model"])
        self.lm_head = nn.Linear(a["d_model"], a["vocab_size"], bias=False)
        for name, p in self.named_parameters():
            if "norm" in name:  # spread out, so that a norm weight that gets lost shows
                nn.init.normal_(p, 1.0, 0.3)
                continue
            std = 0.5 if name == "embed.weight" else p.shape[1] ** -0.5
            if name.endswith(("wo.weight", "w2.weight")):
                std /= math.sqrt(2 * a["n_layers"])
            nn.init.normal_(p, 0.0, std)

    def forward(self, ids, mask):
        t = ids.shape[1]
        x = self.embed(ids)
        bias = (1.0 - mask.to(x.dtype))[:, None, None, :] * MASK_FILL
        if self.attention == "causal":
            bias = bias + torch.triu(torch.ones(t, t, dtype=x.dtype), 1) * MASK_FILL
        for block in self.blocks:
            x = block(x, bias)
        return self.lm_head(self.norm_f(x))


# ---------------------------------------------------------------- the tokenizer

def build_tokenizer():
    """One BPE tokenizer for all three tasks: printable ASCII and newline, then merges, TEXT_IDS entries in all.

    The merges are learnt here, in the open, by the textbook rule (most frequent pair first, ties to the pair that
    comes first in code-point order), so that the file does not depend on a trainer's hash order.
    """
    words = {}
    for name in TASKS:
        for question, _ in TASKS[name]["questions"] + TASKS[name]["id_questions"]:
            for w in ("\u2581" + question.replace(" ", "\u2581")).split("\u2581")[1:]:
                w = "\u2581" + w
                words[w] = words.get(w, 0) + 1
    alphabet = ["\n"] + [chr(c) for c in range(33, 127)] + ["\u2581"]
    vocab = ["<pad>", "<unk>"] + alphabet
    merges = []
    split = {w: list(w) for w in words}
    while len(vocab) < TEXT_IDS:
        pairs = {}
        for w, n in words.items():
            for pair in zip(split[w], split[w][1:]):
                pairs[pair] = pairs.get(pair, 0) + n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        vocab.append(best[0] + best[1])
        for w, s in split.items():
            out, i = [], 0
            while i < len(s):
                if i + 1 < len(s) and (s[i], s[i + 1]) == best:
                    out.append(s[i] + s[i + 1])
                    i += 2
                else:
                    out.append(s[i])
                    i += 1
            split[w] = out
    assert len(set(vocab)) == len(vocab) == TEXT_IDS
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(vocab)}, merges=merges, unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always", split=True)
    tok.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always", split=True)
    tok.add_special_tokens([AddedToken("<pad>", special=True, normalized=False),
                            AddedToken("<unk>", special=True, normalized=False)])
    assert tok.get_vocab_size() == TEXT_IDS
    for word, pieces in split.items():  # the library must cut a word as the merges do
        assert tok.encode(word[1:]).tokens == pieces, word
    return tok


# ---------------------------------------------------------------- training

def batch(rows, length=None):
    length = length or max(map(len, rows))
    ids = torch.full((len(rows), length), PAD_ID, dtype=torch.int64)
    mask = torch.zeros((len(rows), length), dtype=torch.int64)
    for i, r in enumerate(rows):
        ids[i, :len(r)] = torch.tensor(r)
        mask[i, :len(r)] = 1
    return ids, mask


def at_last(logits, rows):
    return logits[torch.arange(len(rows)), torch.tensor([len(r) - 1 for r in rows])]


def rounded(model):
    """A copy of the model with the weights as they are stored: rounded to fp16, computed in fp32."""
    other = StudentLM(ARCH, model.attention)
    other.load_state_dict({k: v.half().float() for k, v in model.state_dict().items()})
    return other.eval()


@torch.no_grad()
def measure(model, rows, targets, class_ids, length=None):
    """(accuracy over the class ids, least probability of the right class, accuracy over the whole vocabulary)"""
    last = at_last(model(*batch(rows, length)), rows)
    probs = last[:, class_ids].softmax(-1)
    want = torch.tensor([class_ids.index(t) for t in targets])
    acc = (probs.argmax(-1) == want).float().mean().item()
    return acc, probs[torch.arange(len(rows)), want].min().item(), \
        (last.argmax(-1) == torch.tensor(targets)).float().mean().item()


def train(task, rows, targets):
    torch.manual_seed(task["seed"])
    class_ids = [i for _, i in task["classes"]]
    model = StudentLM(ARCH, task["attention"])
    assert sum(p.numel() for p in model.parameters()) == PARAMS
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    pads = np.random.default_rng(task["seed"])
    longest = max(map(len, rows))
    # The target over the whole vocabulary: TARGET_PROB on the answer, the rest shared by the other classes.
    soft = torch.zeros(len(rows), ARCH["vocab_size"])
    soft[:, class_ids] = (1 - TARGET_PROB) / (len(class_ids) - 1)
    soft[torch.arange(len(rows)), torch.tensor(targets)] = TARGET_PROB
    for step in range(1, STEPS + 1):
        for g in opt.param_groups:
            g["lr"] = 1e-3 * min(step / 40, 0.5 + 0.5 * math.cos(math.pi * step / (STEPS + 1)))
        # Right padding of a random length; the mask keeps it out of the answer.
        logits = at_last(model(*batch(rows, longest + int(pads.integers(0, 9)))), rows)
        loss = F.cross_entropy(logits, soft)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 100 == 0:
            acc, least, full = measure(rounded(model), rows, targets, class_ids)
            print(f"  step {step:4d} loss {loss.item():.4f} accuracy {acc:.3f} (whole vocabulary {full:.3f}) "
                  f"least p {least:.4f}", flush=True)
    assert full == 1.0, "an answer is not the likeliest token of the whole vocabulary"
    return model, loss.item()


# ---------------------------------------------------------------- export

def write(path, text):
    path.write_text(text, encoding="utf-8", newline="\n")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def quoted(s):
    """A TOML basic string (for ASCII text JSON's escapes are TOML's)."""
    assert s.isascii()
    return json.dumps(s)


def task_toml(name, task, tok):
    out = [f"name = {quoted(name)}", 'tokenizer = "tokenizer.json"', ""]
    for cls, i in task["classes"]:
        out += ["[[classes]]", f"name = {quoted(cls)}", f"token_id = {i}", ""]
    for case in cases_of(task, tok):
        out.append("[[cases]]")
        out.append(f"id = {quoted(case['id'])}")
        if case["as_ids"]:
            out += [f"# {case['text']}", f"input_ids = {case['ids']}"]
        else:
            out.append(f"text = {quoted(case['text'])}")
        out += [f"expected = {quoted(case['answer'])}", ""]
    return "\n".join(out).rstrip("\n") + "\n"


def cases_of(task, tok):
    cases = []
    for prefix, as_ids, qs in (("q", False, task["questions"]), ("ids", True, task["id_questions"])):
        for n, (text, answer) in enumerate(qs, 1):
            ids = tok.encode(text).ids
            assert UNK_ID not in ids and PAD_ID not in ids and max(ids) < TEXT_IDS
            cases.append({"id": f"{prefix}{n:02d}", "as_ids": as_ids, "text": text, "answer": answer, "ids": ids})
    return cases


@torch.no_grad()
def reference(model, cases, seed):
    """Four cases: two questions unpadded, one padded to 32, and 37 random ids padded to 48."""
    order = sorted(cases, key=lambda c: (len(c["ids"]), c["id"]))
    rows = [(order[0]["ids"], None), (order[-1]["ids"], None), (order[len(order) // 2]["ids"], 32)]
    rng = np.random.default_rng(1000 + seed)
    rows.append(([int(i) for i in rng.integers(2, ARCH["vocab_size"], 37)], 48))
    out = {}
    for n, (ids, length) in enumerate(rows):
        i, m = batch([ids], length)
        out[f"case{n}.input.input_ids"] = i.numpy().astype(np.int32)
        out[f"case{n}.input.attention_mask"] = m.numpy().astype(np.int32)
        out[f"case{n}.output.logits"] = model(i, m).numpy()
    return out


@torch.no_grad()
def predictions(name, task, model, cases):
    preds = []
    by_id = dict((i, cls) for cls, i in task["classes"])
    class_ids = list(by_id)
    for case in cases:
        last = at_last(model(*batch([case["ids"]])), [case["ids"]])[0]
        probs = last[class_ids].softmax(-1)
        best = class_ids[int(probs.argmax())]
        p = {"id": case["id"], "question": case["text"], "predicted_class_id": best,
             "predicted_class_name": by_id[best]}
        if name == "8ball":
            p["predicted_answer"] = by_id[best]
        p["class_probabilities"] = [float(x) for x in probs]
        preds.append(p)
    return {"backend": "pytorch", "model": name, "config": name, "predictions": preds}


def versions():
    return (f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}, numpy {np.__version__}, "
            f"safetensors {safetensors.__version__}, tokenizers {tokenizers.__version__}")


def meta(compute, weights, dtype, note):
    return json.dumps({"made_by": f"scripts/models/train.py, {versions()}", "weights": weights,
                       "weights_dtype": dtype, "note": note, "compute": compute}, indent=1) + "\n"


def student_provenance(name, task, out, n_text, n_ids, loss, figures, twins):
    full = {"causal": "causal: each position sees itself and those before it; a 2-D padding mask besides",
            "bidirectional": "bidirectional: no causal mask, as in the predecessor's own `forward`; a 2-D padding mask"}
    table = "\n".join(f"| {k} | {a:.3f} | {p:.6f} |" for k, a, p in figures)
    return f"""# {name}: where this model comes from

A toy classifier for testing conversions. It was trained from random weights by `scripts/models/train.py` on the
{n_text + n_ids} questions of `task.toml` ({n_text} as text, {n_ids} as token ids), which were written for this project, until it knew every answer by heart.
There is no held-out set: the accuracy below says that the stored weights hold the answers, nothing more.
{twins} of the cases are pairs of the same words in another order with different answers, so that the positions matter.

- Architecture: StudentLM, {PARAMS:,} parameters (d_model 128, 2 layers, 4 heads, 2 key/value heads, d_head 32,
  vocabulary 512, RoPE half-split theta 10000 "dynamic", SwiGLU 512, RMSNorm eps 1e-6, untied head, no biases).
- Attention (`config.json`): {full[task['attention']]}, additive -1e4 on masked keys.
  8ball and ternary are causal and binary is bidirectional, so that both are exercised. Right padding is masked, so the answer at the last real token does not depend on it.
- Classification: logits at position `real_len - 1`, restricted to the class token ids {task['classes'][0][1]}-{task['classes'][-1][1]}.
- Training: seed {task['seed']}, AdamW, weight decay 0.05, lr 1e-3 (40 steps of warm-up, then cosine), {STEPS} steps of the full batch, one thread.
  Cross-entropy over the whole vocabulary at the last real token (final loss {loss:.6f}), with a soft target: {TARGET_PROB} on the answer and the rest
  shared by the other classes, so that the model is sure but a drift still shows in the probabilities.
- Weights: trained in fp32, stored as fp16 under the native StudentLM names.
- Tokenizer: BPE over printable ASCII and newline, {TEXT_IDS} entries (ids 0-{TEXT_IDS - 1}; 0 `<pad>`, 1 `<unk>`), merges learnt from the questions of
  all three tasks by the same script; the same file in 8ball, binary and ternary. No text token can collide with a class id.
- `reference.safetensors`: logits in fp32, computed by PyTorch on the stored weights, eager attention, not rounded to fp16.
- `expected_predictions.json`: PyTorch's answers, unpadded, in the predecessor's `pytorch_predictions.json` form with the case id added;
  `predicted_class_id` is the token id, `class_probabilities` follow the order of the classes in `task.toml`.
- Versions: {versions()}.
- Licence: CC0-1.0 for the weights, the questions and the other data in this folder; the scripts are under the project's licence. No third-party data or weights were used.

Measured on the stored weights, all {n_text + n_ids} cases (probability of the expected class over the class ids):

| input | accuracy | least probability |
|---|---|---|
{table}

| file | bytes | sha256 |
|---|---|---|
""" + "\n".join(f"| {f} | {(out / f).stat().st_size} | {sha256(out / f)} |" for f in
                 ("model.safetensors", "config.json", "tokenizer.json", "task.toml", "reference.safetensors",
                  "expected_predictions.json")) + "\n"


def make_student(name, root, tok):
    task = TASKS[name]
    out = root / name
    out.mkdir(parents=True, exist_ok=True)
    cases = cases_of(task, tok)
    assert len({c["text"] for c in cases}) == len(cases)
    token_of = dict(task["classes"])
    class_ids = list(token_of.values())
    rows, targets = [c["ids"] for c in cases], [token_of[c["answer"]] for c in cases]
    assert set(targets) == set(class_ids)
    print(f"{name}: {len(cases)} cases, {min(map(len, rows))}-{max(map(len, rows))} tokens")
    model, loss = train(task, rows, targets)

    save_file({k: v.detach().half().numpy() for k, v in model.state_dict().items()}, out / "model.safetensors")
    stored = StudentLM(ARCH, task["attention"]).eval()
    stored.load_state_dict({k: torch.from_numpy(v.astype(np.float32))
                            for k, v in load_file(out / "model.safetensors").items()})

    figures = []
    for length in (None, 64, 128, 256):
        if length is None:  # each case alone, without a pad
            got = [measure(stored, [r], [t], class_ids) for r, t in zip(rows, targets)]
            acc, least = sum(g[0] for g in got) / len(got), min(g[1] for g in got)
        else:
            acc, least, _ = measure(stored, rows, targets, class_ids, length)
        assert acc == 1.0 and least >= MIN_PROB, (name, length, acc, least)
        figures.append(("unpadded" if length is None else f"padded to {length}", acc, least))
    print("  " + ", ".join(f"{k}: {a:.3f}/{p:.5f}" for k, a, p in figures))

    write(out / "config.json", json.dumps({"model_type": "student", "arch": ARCH,
                                           "attention": task["attention"]}, indent=1) + "\n")
    write(out / "meta.json", meta("float32, eager attention", "trained, seeded", "torch.float16",
                                  "logits were not rounded to fp16"))
    tok.save(str(out / "tokenizer.json"))
    write(out / "task.toml", task_toml(name, task, tok))
    save_file(reference(stored, cases, task["seed"]), out / "reference.safetensors")
    write(out / "expected_predictions.json",
          json.dumps(predictions(name, task, stored, cases), indent=1) + "\n")
    bags = {}
    for c in cases:
        words = tuple(sorted(c["text"].lower().replace("?", "").split()))
        bags.setdefault(words, set()).add(c["answer"])
    twins = sum(len(a) for a in bags.values() if len(a) > 1)
    write(out / "PROVENANCE.md", student_provenance(name, task, out, len(task["questions"]),
                                                    len(task["id_questions"]), loss, figures, twins))


# ---------------------------------------------------------------- toy-block

def make_toy_block(root):
    """RMSNorm -> MHA (no GQA, RoPE or mask) -> +res -> RMSNorm -> SwiGLU(4x) -> +res; x fp32 [1,T,D] -> y."""
    d, h, seed = 64, 4, 64
    out = root / "toy-block"
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)

    def normal(*shape, std):
        return (rng.standard_normal(shape) * std).astype(np.float32)

    # Wide enough that the attention is peaky and a wrong norm, scale or head order shows.
    w = {"norm1.weight": 1 + normal(d, std=0.2),
         "attn.wq.weight": normal(d, d, std=0.2), "attn.wk.weight": normal(d, d, std=0.2),
         "attn.wv.weight": normal(d, d, std=0.125), "attn.wo.weight": normal(d, d, std=0.125),
         "norm2.weight": 1 + normal(d, std=0.2),
         "mlp.w1.weight": normal(4 * d, d, std=0.125), "mlp.w3.weight": normal(4 * d, d, std=0.125),
         "mlp.w2.weight": normal(d, 4 * d, std=0.0625)}
    w = {k: np.asarray(v, np.float32) for k, v in w.items()}
    save_file(w, out / "model.safetensors")
    p = {k: torch.from_numpy(v) for k, v in load_file(out / "model.safetensors").items()}

    def norm(x, weight):
        return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + NORM_EPS)

    def forward(x):
        b, t, _ = x.shape
        n = norm(x, p["norm1.weight"])
        q, k, v = (F.linear(n, p[f"attn.{m}.weight"]).view(b, t, h, d // h).transpose(1, 2) for m in ("wq", "wk", "wv"))
        a = (q @ k.transpose(-1, -2) / math.sqrt(d // h)).softmax(-1) @ v
        x = x + F.linear(a.transpose(1, 2).reshape(b, t, d), p["attn.wo.weight"])
        n = norm(x, p["norm2.weight"])
        return x + F.linear(F.silu(F.linear(n, p["mlp.w1.weight"])) * F.linear(n, p["mlp.w3.weight"]),
                            p["mlp.w2.weight"])

    ref = {}
    for n, t in enumerate((128, 16)):
        x = normal(1, t, d, std=1.0)
        ref[f"case{n}.input.x"] = x
        ref[f"case{n}.output.y"] = forward(torch.from_numpy(x)).numpy()
    save_file(ref, out / "reference.safetensors")
    write(out / "config.json", json.dumps({"model_type": "toy-block", "d_model": d, "n_heads": h, "mlp_ratio": 4,
                                           "norm_eps": NORM_EPS}, indent=1) + "\n")
    write(out / "meta.json", meta("float32, eager attention", "random, seeded", "torch.float32",
                                  "one transformer block; input x, output y, both float32 [1,T,64]"))
    write(out / "PROVENANCE.md", f"""# toy-block: where this model comes from

One transformer block with random, seeded weights, made by `scripts/models/train.py` (nothing is trained):
RMSNorm (eps 1e-6) -> multi-head attention (4 heads of 16; no GQA, RoPE or mask) -> residual -> RMSNorm -> SwiGLU (4x) -> residual.

- Input `x` and output `y`, float32 `[1,T,64]`; T is 128 in case0 and 16 in case1 of `reference.safetensors`.
- Tensors, fp32: `norm1.weight`, `attn.{{wq,wk,wv,wo}}.weight`, `norm2.weight`, `mlp.{{w1,w3,w2}}.weight` (`[out,in]`; w1 gate, w3 up, w2 down); {sum(v.size for v in w.values()):,} parameters.
- Seed {seed} (numpy's default generator). Drawn wide, so that the attention is peaky and a wrong norm, scale or head order shows.
- Reference: PyTorch in fp32 on the stored weights.
- Versions: {versions()}.
- Licence: CC0-1.0 for the data in this folder; the scripts are under the project's licence. No third-party data or weights were used.

| file | bytes | sha256 |
|---|---|---|
""" + "\n".join(f"| {f} | {(out / f).stat().st_size} | {sha256(out / f)} |"
                for f in ("model.safetensors", "reference.safetensors")) + "\n")
    print("toy-block: done")


def main():
    ap = argparse.ArgumentParser(description="Train and export the toy models.")
    ap.add_argument("--out", type=Path, required=True, help="folder that receives one folder per model")
    ap.add_argument("--only", choices=[*TASKS, "toy-block"], action="append", help="make only this (repeatable)")
    args = ap.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    wanted = args.only or [*TASKS, "toy-block"]
    tok = build_tokenizer()
    for name in wanted:
        if name == "toy-block":
            make_toy_block(args.out)
        else:
            make_student(name, args.out, tok)


if __name__ == "__main__":
    main()
