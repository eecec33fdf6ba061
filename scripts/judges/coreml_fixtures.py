#!/usr/bin/env python3
"""Makes tests/fixtures/coreml: packages built by coremltools (not by this project) with inputs, and outputs computed by NumPy in float64.

Run with the judges' venv: python scripts/judges/coreml_fixtures.py
The packages hold random weights of seed 7. They differ in their bytes from run to run (random identifiers, dates); what they compute does not.
"""

import pathlib
import shutil
import warnings

warnings.filterwarnings("ignore")

import coremltools as ct
import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import get_new_symbol, types

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/coreml"
RNG = np.random.default_rng(7)
V, D, H, F = 50, 16, 4, 32  # vocabulary, width, heads, feed-forward width
HEAD = D // H
TABLE = RNG.standard_normal((32, 3)).astype(np.float32)


def weights(dtype):
    def w(*shape):
        return (RNG.standard_normal(shape) / np.sqrt(shape[-1])).astype(dtype)

    return {
        "emb": w(V, D), "pos": w(64, D), "q": w(D, D), "k": w(D, D), "v": w(D, D), "o": w(D, D), "ob": w(D),
        "g": (1 + w(D)).astype(dtype), "b": w(D), "up": w(F, D), "upb": w(F), "down": w(D, F), "gate": w(F, D),
    }


def save(name, program, target, precision, inputs, expected, flexible=None, outputs=None):
    model = ct.convert(
        program, convert_to="mlprogram", minimum_deployment_target=target, compute_precision=precision,
        inputs=flexible, outputs=outputs, skip_model_load=True,
    )
    model.short_description = f"fixture {name}"
    model.author = "coremltools " + ct.__version__
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.save(str(folder / "model.mlpackage"))
    for i, (x, y) in enumerate(zip(inputs, expected)):
        np.savez(folder / f"inputs.{i}.npz", **x)
        np.savez(folder / f"expected.{i}.npz", **{k: np.asarray(v, np.float32 if np.asarray(v).dtype.kind == "f" else None) for k, v in y.items()})
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(name, size, [o.name for o in model.get_spec().description.output])
    assert size < 200_000


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def layer_norm(x, g, b, eps):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * g + b


def erf(x):
    import math

    return np.vectorize(math.erf)(x)


def encoder():
    """BERT-like, fixed shapes, single precision, iOS 15."""
    w = weights(np.float32)
    S = 8

    @mb.program(input_specs=[mb.TensorSpec((2, S), types.int32), mb.TensorSpec((2, S), types.int32)], opset_version=ct.target.iOS15)
    def program(input_ids, attention_mask):
        x = mb.gather(x=w["emb"], indices=input_ids, axis=0, name="embedded")
        x = mb.add(x=x, y=w["pos"][:S])
        x = mb.layer_norm(x=x, axes=[-1], gamma=w["g"], beta=w["b"], epsilon=1e-6, name="first_norm")

        def heads(name):
            y = mb.linear(x=x, weight=w[name], bias=w["ob"] if name == "q" else None)
            return mb.transpose(x=mb.reshape(x=y, shape=[2, -1, H, HEAD]), perm=[0, 2, 1, 3])

        q, k, v = heads("q"), heads("k"), heads("v")
        s = mb.mul(x=mb.matmul(x=q, y=k, transpose_y=True), y=np.float32(HEAD**-0.5))
        m = mb.expand_dims(x=mb.cast(x=attention_mask, dtype="fp32"), axes=[1, 2])
        m = mb.mul(x=mb.sub(x=np.float32(1), y=m), y=np.float32(-1e4))
        p = mb.softmax(x=mb.add(x=s, y=m), axis=-1, name="probabilities")
        y = mb.reshape(x=mb.transpose(x=mb.matmul(x=p, y=v), perm=[0, 2, 1, 3]), shape=[2, S, -1])
        x = mb.add(x=x, y=mb.linear(x=y, weight=w["o"], bias=w["ob"]))
        up = mb.gelu(x=mb.linear(x=x, weight=w["up"], bias=w["upb"]), mode="EXACT")
        x = mb.add(x=x, y=mb.linear(x=up, weight=w["down"]))
        x = mb.reshape(x=x, shape=[0, -1, 0], name="hidden")
        first = mb.slice_by_index(x=x, begin=[0, 0, 0], end=[0, 1, 0], begin_mask=[True, False, True], end_mask=[True, False, True], squeeze_mask=[False, True, False])
        pooled = mb.tanh(x=mb.matmul(x=first, y=w["o"]), name="pooled")
        parts = mb.split(x=x, num_splits=2, axis=-1)
        joined = mb.concat(values=[parts[1], parts[0]], axis=-1)
        mean = mb.reduce_mean(x=mb.square(x=joined), axes=[1], keep_dims=False)
        norm = mb.real_div(x=mean, y=mb.maximum(x=mb.reduce_l2_norm(x=mean, axes=[-1], keep_dims=True), y=np.float32(1e-12)), name="normalised")
        return x, pooled, norm

    ids = RNG.integers(0, V, (2, S)).astype(np.int32)
    mask = np.array([[1] * 8, [1] * 5 + [0] * 3], np.int32)

    W = {k: v.astype(np.float64) for k, v in w.items()}
    x = layer_norm(W["emb"][ids] + W["pos"][:S], W["g"], W["b"], np.float64(np.float32(1e-6)))

    def heads(n):
        y = x @ W[n].T + (W["ob"] if n == "q" else 0)
        return y.reshape(2, S, H, HEAD).transpose(0, 2, 1, 3)

    q, k, v = heads("q"), heads("k"), heads("v")
    s = q @ k.swapaxes(-1, -2) * HEAD**-0.5 + (1 - mask[:, None, None, :].astype(np.float64)) * -1e4
    y = (softmax(s) @ v).transpose(0, 2, 1, 3).reshape(2, S, D)
    x = x + y @ W["o"].T + W["ob"]
    up = x @ W["up"].T + W["upb"]
    up = up / 2 * (1 + erf(up / np.sqrt(2)))
    x = x + up @ W["down"].T
    pooled = np.tanh(x[:, 0] @ W["o"])
    j = np.concatenate([x[..., D // 2 :], x[..., : D // 2]], -1)
    mean = (j**2).mean(1)
    save("encoder", program, ct.target.iOS15, ct.precision.FLOAT32,
         [{"input_ids": ids, "attention_mask": mask}],
         [{"hidden": x, "pooled": pooled, "normalised": mean / np.linalg.norm(mean, axis=-1, keepdims=True)}])


def decoder():
    """Llama-like, enumerated lengths, half precision, iOS 17; shapes are computed at run time."""
    w = weights(np.float16)
    seq = get_new_symbol()

    @mb.program(input_specs=[mb.TensorSpec((1, seq), types.int32)], opset_version=ct.target.iOS17)
    def program(input_ids):
        shape = mb.shape(x=input_ids)
        n = mb.gather(x=shape, indices=1, axis=0, batch_dims=0)
        x = mb.gather(x=w["emb"], indices=input_ids, axis=0, batch_dims=0, name="embedded")
        x32 = mb.cast(x=x, dtype="fp32")
        ms = mb.reduce_mean(x=mb.square(x=x32), axes=[-1], keep_dims=True)
        x32 = mb.mul(x=x32, y=mb.rsqrt(x=mb.add(x=ms, y=np.float32(1e-5)), epsilon=np.float32(0)))
        h = mb.mul(x=mb.cast(x=x32, dtype="fp16"), y=w["g"], name="normed")
        pos = mb.range_1d(start=0, end=n, step=1)
        freq = (10000.0 ** (-np.arange(HEAD // 2) / (HEAD // 2))).astype(np.float32)
        angle = mb.mul(x=mb.expand_dims(x=mb.cast(x=pos, dtype="fp32"), axes=[1]), y=freq.reshape(1, -1))
        angle = mb.concat(values=[angle, angle], axis=-1)
        cos, sin = (mb.cast(x=f(x=angle), dtype="fp16") for f in (mb.cos, mb.sin))
        to = mb.concat(values=[1, n, H, HEAD], axis=0)

        def heads(name, rotate):
            y = mb.transpose(x=mb.reshape(x=mb.linear(x=h, weight=w[name]), shape=to), perm=[0, 2, 1, 3])
            if not rotate:
                return y
            a = mb.slice_by_index(x=y, begin=[0, 0, 0, 0], end=[0, 0, 0, HEAD // 2], end_mask=[True, True, True, False])
            b = mb.slice_by_index(x=y, begin=[0, 0, 0, -HEAD // 2], end=[0, 0, 0, 0], end_mask=[True] * 4)
            turned = mb.concat(values=[mb.mul(x=b, y=np.float16(-1)), a], axis=-1)
            return mb.add(x=mb.mul(x=y, y=cos), y=mb.mul(x=turned, y=sin))

        q, k, v = heads("q", True), heads("k", True), heads("v", False)
        s = mb.matmul(x=mb.mul(x=q, y=np.float16(HEAD**-0.5)), y=k, transpose_y=True)
        later = mb.greater(x=mb.expand_dims(x=pos, axes=[0]), y=mb.expand_dims(x=pos, axes=[1]))
        s = mb.select(cond=later, a=np.float16(-1e4), b=s)
        y = mb.matmul(x=mb.softmax(x=s, axis=-1), y=v)
        y = mb.reshape(x=mb.transpose(x=y, perm=[0, 2, 1, 3]), shape=mb.concat(values=[1, n, D], axis=0))
        x = mb.add(x=x, y=mb.linear(x=y, weight=w["o"]), name="attended")
        f = mb.mul(x=mb.silu(x=mb.linear(x=x, weight=w["gate"])), y=mb.linear(x=x, weight=w["up"]))
        x = mb.add(x=x, y=mb.linear(x=f, weight=w["down"]))
        return mb.linear(x=x, weight=w["emb"], name="logits")

    W = {k: v.astype(np.float64) for k, v in w.items()}

    def run(ids):
        n = ids.shape[1]
        x = W["emb"][ids]
        h = x / np.sqrt((x**2).mean(-1, keepdims=True) + np.float64(np.float32(1e-5))) * W["g"]
        freq = (10000.0 ** (-np.arange(HEAD // 2) / (HEAD // 2))).astype(np.float32).astype(np.float64)
        a = np.arange(n)[:, None] * freq
        a = np.concatenate([a, a], -1)

        def heads(name, rotate):
            y = (h @ W[name].T).reshape(1, n, H, HEAD).transpose(0, 2, 1, 3)
            if not rotate:
                return y
            t = np.concatenate([-y[..., HEAD // 2 :], y[..., : HEAD // 2]], -1)
            return y * np.cos(a) + t * np.sin(a)

        q, k, v = heads("q", True), heads("k", True), heads("v", False)
        s = q * HEAD**-0.5 @ k.swapaxes(-1, -2)
        s = np.where(np.triu(np.ones((n, n), bool), 1), -1e4, s)
        y = (softmax(s) @ v).transpose(0, 2, 1, 3).reshape(1, n, D)
        x = x + y @ W["o"].T
        g = x @ W["gate"].T
        x = x + (g / (1 + np.exp(-g)) * (x @ W["up"].T)) @ W["down"].T
        return {"logits": x @ W["emb"].T}

    ids = [RNG.integers(0, V, (1, n)).astype(np.int32) for n in (4, 8, 16)]
    save("decoder", program, ct.target.iOS17, ct.precision.FLOAT16, [{"input_ids": i} for i in ids], [run(i) for i in ids],
         flexible=[ct.TensorType(name="input_ids", shape=ct.EnumeratedShapes([(1, 4), (1, 8), (1, 16)], default=(1, 8)), dtype=np.int32)],
         outputs=[ct.TensorType(name="logits", dtype=np.float16)])


def shapes():
    """Two ranges, and every way to move data along shapes that are known at run time; iOS 16, single precision."""
    b, s = get_new_symbol(), get_new_symbol()

    @mb.program(input_specs=[mb.TensorSpec((b, s, 6), types.fp32), mb.TensorSpec((b, s), types.int32)], opset_version=ct.target.iOS16)
    def program(x, mask):
        shape = mb.shape(x=x)
        batch = mb.slice_by_index(x=shape, begin=[0], end=[1], squeeze_mask=[True])
        seq = mb.slice_by_size(x=shape, begin=[1], size=[1])
        total = mb.mul(x=mb.squeeze(x=seq, axes=[0]), y=batch)
        flat = mb.reshape(x=x, shape=mb.stack(values=[total, 6], axis=0), name="flat")
        sums = mb.cumsum(x=mask, axis=1)
        where = mb.mul(x=mb.sub(x=sums, y=1), y=mask, name="positions")
        looked_up = mb.gather(x=TABLE, indices=where, axis=0, batch_dims=0, name="looked_up")
        last = mb.sub(x=mb.reduce_sum(x=mask, axes=[1], keep_dims=True), y=1)
        picked = mb.gather_along_axis(x=where, indices=last, axis=1, name="picked")
        reps = mb.concat(values=[np.array([1], np.int32), seq, np.array([1], np.int32)], axis=0)
        first = mb.slice_by_index(x=x, begin=[0, 0, 0], end=[0, 1, 0], begin_mask=[True, False, True], end_mask=[True, False, True])
        tiled = mb.tile(x=first, reps=reps)
        twice = mb.tile(x=x, reps=[1, 2, 1], name="twice")
        diff = mb.sub(x=x, y=tiled, name="diff")
        odd = mb.slice_by_index(x=diff, begin=[0, 0, 1], end=[0, 0, 0], stride=[1, 1, 2], end_mask=[True, True, True])
        back = mb.slice_by_index(x=odd, begin=[0, 0, -1], end=[0, 0, 0], stride=[1, 1, -1], begin_mask=[True, True, True], end_mask=[True, True, True])
        clipped = mb.clip(x=mb.mul(x=back, y=np.float32(3)), alpha=np.float32(-1), beta=np.float32(2))
        ones = mb.fill(shape=mb.concat(values=[batch, 2, 1], axis=0), value=np.float32(1))
        stacked = mb.stack(values=[clipped, mb.abs(x=clipped)], axis=2)
        stacked = mb.squeeze(x=mb.reduce_max(x=stacked, axes=[-1], keep_dims=True), axes=[-1])
        shown = mb.matmul(x=stacked, y=ones, name="shown")
        length = mb.cast(x=mb.reduce_prod(x=shape), dtype="fp32")
        scaled = mb.floor(x=mb.real_div(x=mb.mul(x=mb.reduce_sum(x=x), y=np.float32(100)), y=length), name="scaled")
        return flat, where, looked_up, picked, twice, diff, shown, scaled

    def run(x, mask):
        n, t, _ = x.shape
        where = (np.cumsum(mask, 1) - 1) * mask
        diff = x - x[:, :1]
        c = np.clip(diff[..., 1::2][..., ::-1] * 3, -1, 2)
        st = np.stack([c, np.abs(c)], 2).max(-1)
        return {
            "flat": x.reshape(n * t, 6), "positions": where, "looked_up": TABLE.astype(np.float64)[where], "picked": np.take_along_axis(where, mask.sum(1, keepdims=True) - 1, 1),
            "twice": np.tile(x, (1, 2, 1)), "diff": diff, "shown": st @ np.ones((n, 2, 1)),
            "scaled": np.floor(np.array([x.sum() * 100 / x.size])),
        }

    cases = []
    for n, t in ((1, 3), (2, 7)):
        x = RNG.standard_normal((n, t, 6)).astype(np.float32)
        mask = np.ones((n, t), np.int32)
        mask[0, t - 1] = 0
        cases.append((x, mask))
    expected = [run(x.astype(np.float64), m) for x, m in cases]
    for e in expected:
        e["positions"], e["picked"] = e["positions"].astype(np.int32), e["picked"].astype(np.int32)
    rb, rs = ct.RangeDim(1, 4, default=1), ct.RangeDim(2, 32, default=3)
    save("shapes", program, ct.target.iOS16, ct.precision.FLOAT32, [{"x": x, "mask": m} for x, m in cases], expected,
         flexible=[ct.TensorType(name="x", shape=(rb, rs, 6)), ct.TensorType(name="mask", shape=(rb, rs), dtype=np.int32)])


if __name__ == "__main__":
    encoder()
    decoder()
    shapes()
