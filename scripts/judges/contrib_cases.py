"""Writes one folder per case of ONNX Runtime's own operators (com.microsoft): the model of one node, its inputs, and what ONNX Runtime computes.
The layout is that of ONNX's node tests. Beside them, in `refused`, models that have to be refused, with a text that the message has to hold.
Usage: contrib_cases.py FOLDER"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from seeded import Numbers

ROOT = Path(sys.argv[1]) / "cases"
REFUSED = Path(sys.argv[1]) / "refused"
MADE = []
# Weights of int8 stay within seven bits: without VNNI instructions, ONNX Runtime adds pairs of products with activations of eight bits in int16,
# which saturates at 32,767 (2 · 255 · 64 = 32,640 does not).
NARROW = dict(low=-60, high=60, dtype=np.int8)
F32, F16, U8, I8, I32, I64 = np.float32, np.float16, np.uint8, np.int8, np.int32, np.int64


def run(model, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def kind_of(op, inputs, output):
    """The element type of a result."""
    eight = [x.dtype for x in inputs if x is not None and x.dtype in (U8, I8)]
    if op.startswith("QLinear") or op == "NhwcMaxPool" or (op == "QGemm" and len(inputs) > 7):
        return helper.np_dtype_to_tensor_dtype(eight[0])
    if op == "EmbedLayerNormalization" and output == "y1":
        return TensorProto.INT32
    return TensorProto.FLOAT


def model_of(op, inputs, outputs, attributes, constants, domain):
    """The model of one node; its outputs get their shapes once they have been computed."""
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    while names and not names[-1]:
        names.pop()
    node = helper.make_node(op, names, outputs, name="node", domain=domain, **attributes)
    given, stored = [], []
    for i, x in enumerate(inputs):
        if x is None:
            continue
        if i in constants:
            stored.append(numpy_helper.from_array(x, names[i]))
        else:
            dtype = helper.np_dtype_to_tensor_dtype(x.dtype)
            given.append(helper.make_tensor_value_info(names[i], dtype, x.shape))
    results = [helper.make_tensor_value_info(o, kind_of(op, inputs, o), None) for o in outputs if o]
    graph = helper.make_graph([node], "case", given, results, stored)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def case(name, op, inputs, outputs=("y0",), constants=(), domain="com.microsoft", like=None, **attributes):
    """One case. `like` computes the expected outputs with other operands or attributes: of what this build of ONNX Runtime lacks."""
    outputs = list(outputs)
    model = model_of(op, inputs, outputs, attributes, set(constants), domain)
    judged, feeds = (model, inputs) if like is None else like
    skip = set(constants) if like is None else set()
    feeds = {f"x{i}": x for i, x in enumerate(feeds) if x is not None and i not in skip}
    try:
        results = run(judged, feeds)
    except Exception as error:
        sys.exit(f"{name}: ONNX Runtime refuses it: {error}")
    results = results[: len(model.graph.output)]
    for info, result in zip(model.graph.output, results):
        kind = helper.np_dtype_to_tensor_dtype(result.dtype)
        info.CopyFrom(helper.make_tensor_value_info(info.name, kind, result.shape))
    folder = ROOT / name
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    fed = [x for i, x in enumerate(inputs) if x is not None and i not in set(constants)]
    for i, x in enumerate(fed):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
    for i, y in enumerate(results):
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(np.asarray(y)).SerializeToString())
    MADE.append(name)


def attention():
    n = Numbers("attention")
    b, s, width, heads = 2, 4, 12, 3
    x, w, bias = n.floats(b, s, 8), n.floats(8, 36), n.floats(36)
    plain = dict(num_heads=heads)
    case("attention_plain", "Attention", [x, w, bias], **plain)
    # Without a bias ONNX Runtime 1.31 crashes: as with one of zeros.
    zeros = [x, w, np.zeros(36, F32)]
    case("attention_without_bias", "Attention", [x, w], like=(model_of("Attention", zeros, ["y0"], plain, set(), "com.microsoft"), zeros), **plain)
    case("attention_present", "Attention", [x, w, bias], ["y0", "y1"], **plain)
    case("attention_unidirectional", "Attention", [x, w, bias], unidirectional=1, **plain)
    case("attention_scale", "Attention", [x, w, bias], scale=0.7, **plain)
    ends = np.array([3, 4], I32)
    case("attention_mask_ends", "Attention", [x, w, bias, ends], **plain)
    starts = np.array([4, 3, 1, 0], I32)
    case("attention_mask_ends_and_starts", "Attention", [x, w, bias, starts], **plain)
    keys = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], I32)
    case("attention_mask_of_keys", "Attention", [x, w, bias, keys], **plain)
    case("attention_mask_filter", "Attention", [x, w, bias, keys], mask_filter_value=-2.0, **plain)
    case("attention_mask_unidirectional", "Attention", [x, w, bias, keys], unidirectional=1, **plain)
    none = np.array([[0, 0, 0, 0], [1, 0, 0, 1]], I32)
    case("attention_mask_of_no_key", "Attention", [x, w, bias, none], **plain)
    each = n.ints(b, s, s, high=1, dtype=I32)
    case("attention_mask_of_pairs", "Attention", [x, w, bias, each], **plain)
    past = n.floats(2, b, heads, 3, 4)
    case("attention_past", "Attention", [x, w, bias, None, past], ["y0", "y1"], **plain)
    case("attention_past_unidirectional", "Attention", [x, w, bias, None, past], ["y0", "y1"], unidirectional=1, **plain)
    long = n.ints(b, s + 3, high=1, dtype=I32)
    case("attention_past_mask", "Attention", [x, w, bias, long, past], ["y0", "y1"], **plain)
    extra = n.floats(1, heads, s, s)
    case("attention_bias", "Attention", [x, w, bias, None, None, extra], **plain)
    case("attention_bias_and_mask", "Attention", [x, w, bias, keys, None, n.floats(b, 1, s, s)], **plain)
    w2, bias2 = n.floats(8, 30), n.floats(30)
    case("attention_widths", "Attention", [x, w2, bias2], qkv_hidden_sizes=[12, 12, 6], num_heads=3)
    q, qw = n.ints(b, s, 8), n.ints(8, 36, **NARROW)
    scale, zero = np.array(0.02, F32), np.array(120, U8)
    one = np.array(0.01, F32)
    case("qattention", "QAttention", [q, qw, bias, scale, one, None, zero, np.array(3, I8)], **plain)
    each = n.floats(36, scale=0.005) + F32(0.01)
    case("qattention_per_column", "QAttention", [q, qw, bias, scale, each, ends, zero, np.zeros(36, I8)], unidirectional=1, **plain)
    case("qattention_past", "QAttention", [q, qw, bias, scale, one, None, zero, np.array(0, I8), past], ["y0", "y1"], unidirectional=1, **plain)


def multi_head():
    n = Numbers("multi-head")
    b, s, t, heads, size = 2, 3, 5, 2, 4
    q, k, v = n.floats(b, s, 8), n.floats(b, t, 8), n.floats(b, t, 8)
    plain = dict(num_heads=heads)
    op = "MultiHeadAttention"
    case("mha_plain", op, [q, k, v], **plain)
    case("mha_wide_values", op, [q, k, n.floats(b, t, 12)], **plain)
    case("mha_bias", op, [q, k, v, n.floats(24)], **plain)
    case("mha_scale", op, [q, k, v], scale=0.25, **plain)
    ends = np.array([3, 5], I32)
    case("mha_mask_ends", op, [q, k, v, None, ends], **plain)
    keys = n.ints(b, t, high=1, dtype=I32)
    case("mha_mask_of_keys", op, [q, k, v, None, keys], **plain)
    case("mha_mask_filter", op, [q, k, v, None, keys], mask_filter_value=-3.0, **plain)
    case("mha_mask_of_pairs", op, [q, k, v, None, n.ints(b, s, t, high=1, dtype=I32)], **plain)
    case("mha_attention_bias", op, [q, k, v, None, None, n.floats(1, heads, s, t)], **plain)
    case("mha_attention_bias_and_mask", op, [q, k, v, None, keys, n.floats(b, heads, s, t)], **plain)
    case("mha_unidirectional", op, [k, k, v], unidirectional=1, **plain)
    past = [n.floats(b, heads, 2, size), n.floats(b, heads, 2, size)]
    case("mha_past", op, [k, k, v, None, None, None, *past], ["y0", "y1", "y2"], **plain)
    case("mha_past_unidirectional", op, [k, k, v, None, None, None, *past], ["y0", "y1", "y2"], unidirectional=1, **plain)
    total = n.ints(b, t + 2, high=1, dtype=I32)
    case("mha_past_mask", op, [k, k, v, n.floats(24), total, None, *past], ["y0", "y1", "y2"], **plain)
    case("mha_scores", op, [q, k, v, None, keys], ["y0", "", "", "y3"], **plain)
    split = lambda x: np.ascontiguousarray(x.reshape(b, t, heads, size).transpose(0, 2, 1, 3))
    case("mha_keys_of_rank_4", op, [q, split(k), split(v)], **plain)
    # Packed operands are only known to other execution providers: as the same operands apart.
    grid = lambda x: x.reshape(b, t, heads, size)
    apart = [q, k, v]
    pair = np.stack([grid(k), grid(v)], 3)
    case("mha_packed_kv", op, [q, pair], like=(model_of(op, apart, ["y0"], plain, set(), "com.microsoft"), apart), **plain)
    apart = [n.floats(b, t, 8), k, v]
    triple = np.stack([grid(x) for x in apart], 3)
    case("mha_packed_qkv", op, [triple], like=(model_of(op, apart, ["y0"], plain, set(), "com.microsoft"), apart), **plain)


def group_query():
    n = Numbers("group-query")
    op = "GroupQueryAttention"
    b, heads, groups, size = 2, 4, 2, 16
    plain = dict(num_heads=heads, kv_num_heads=groups)
    both = ["y0", "y1", "y2"]
    total = lambda t: np.array(t, I32)
    rows = lambda s: (n.floats(b, s, heads * size), n.floats(b, s, groups * size), n.floats(b, s, groups * size))
    angles = n.floats(16, size // 2, scale=3.0)
    tables = [np.cos(angles), np.sin(angles)]
    q, k, v = rows(5)
    full = np.array([4, 4], I32)
    prompt = [q, k, v, None, None, full, total(5)]
    fixed = dict(constants=(6,))
    case("gqa_prompt", op, prompt, both, **fixed, **plain)
    case("gqa_prompt_scale", op, prompt, both, scale=0.5, **fixed, **plain)
    case("gqa_prompt_softcap", op, prompt, both, softcap=0.8, **fixed, **plain)
    case("gqa_prompt_window", op, prompt, both, local_window_size=2, **fixed, **plain)
    case("gqa_prompt_all_to_all", op, prompt, both, causal=0, **fixed, **plain)
    case("gqa_prompt_smooth", op, prompt, both, smooth_softmax=1, **fixed, **plain)
    case("gqa_prompt_rotary", op, prompt + tables, both, do_rotary=1, **fixed, **plain)
    case("gqa_prompt_rotary_interleaved", op, prompt + tables, both, do_rotary=1, rotary_interleaved=1, **fixed, **plain)
    part = [t[:, :2].copy() for t in tables]
    packed = np.concatenate([q, k, v], 2)
    case("gqa_packed", op, [packed, None, None, *prompt[3:]], both, **fixed, **plain)
    case("gqa_packed_rotary", op, [packed, None, None, *prompt[3:], *tables], both, do_rotary=1, **fixed, **plain)
    bias = n.floats(1, heads, 5, 5)
    case("gqa_prompt_bias", op, prompt + [None, None, None, bias], both, **fixed, **plain)
    case("gqa_prompt_bias_softcap", op, prompt + [None, None, None, bias], both, softcap=0.5, **fixed, **plain)
    sink = n.floats(heads)
    case("gqa_prompt_sink", op, prompt + [None] * 4 + [sink], both, **fixed, **plain)
    # One new token after a cache of 4; then after caches of different lengths in buffers of 8.
    q, k, v = rows(1)
    past = [n.floats(b, groups, 4, size), n.floats(b, groups, 4, size)]
    step = [q, k, v, *past, full, total(5)]
    case("gqa_step", op, step, both, **fixed, **plain)
    case("gqa_step_rotary", op, step + tables, both, do_rotary=1, **fixed, **plain)
    case("gqa_step_window", op, step, both, local_window_size=3, **fixed, **plain)
    case("gqa_step_softcap", op, step, both, softcap=0.8, **fixed, **plain)
    places = np.array([[7], [2]], I64)
    case("gqa_step_positions", op, step + tables + [places], both, do_rotary=1, **fixed, **plain)
    case("gqa_step_bias", op, step + [None, None, None, n.floats(b, 1, 1, 5)], both, **fixed, **plain)
    buffers = [n.floats(b, groups, 8, size), n.floats(b, groups, 8, size)]
    ragged = [q, k, v, *buffers, np.array([2, 5], I32), total(6)]
    for name, more, how in [("", [], {}), ("_rotary", tables, dict(do_rotary=1)), ("_all_to_all", [], dict(causal=0))]:
        case(f"gqa_step_ragged{name}", op, ragged + more, both, **fixed, **plain, **how)
    b = 1
    # A cache that is longer than what is counted.
    room = [n.floats(1, groups, 12, size), n.floats(1, groups, 12, size)]
    case("gqa_step_room", op, [*rows(1), *room, np.array([7], I32), total(8), *tables], both, do_rotary=1, **fixed, **plain)
    case("gqa_prompt_room", op, [*rows(4), *room, np.array([3], I32), total(4), *tables], both, do_rotary=1, **fixed, **plain)
    q, k, v = rows(3)
    past = [n.floats(1, groups, 4, size), n.floats(1, groups, 4, size)]
    several = [q, k, v, *past, np.array([6], I32), total(7)]
    case("gqa_several", op, several, both, **fixed, **plain)
    case("gqa_several_rotary_window", op, several + tables, both, do_rotary=1, local_window_size=3, **fixed, **plain)


def rotary():
    n = Numbers("rotary")
    op = "RotaryEmbedding"
    angles = n.floats(10, 4, scale=3.0)
    tables = [np.cos(angles), np.sin(angles)]
    x = n.floats(2, 3, 16)
    places = np.array([[1, 5, 2], [0, 9, 3]], I64)
    first = np.array([4], I64)
    for name, interleaved in [("", 0), ("_interleaved", 1)]:
        how = dict(interleaved=interleaved)
        case(f"rotary_flat{name}", op, [x, places, *tables], **how)
        case(f"rotary_heads{name}", op, [n.floats(2, 2, 3, 8), places, *tables], **how)
        case(f"rotary_first{name}", op, [x, first, *tables], **how)
        case(f"rotary_part{name}", op, [n.floats(2, 3, 24), places, *tables], num_heads=2, rotary_embedding_dim=8, **how)


def products():
    n = Numbers("products")
    a, b = n.floats(3, 4, 5), n.floats(3, 5, 6)
    turn = lambda x, *p: np.ascontiguousarray(x.transpose(*p))
    case("fused_matmul", "FusedMatMul", [a, b], alpha=0.5)
    case("fused_matmul_a", "FusedMatMul", [turn(a, 0, 2, 1), b], transA=1)
    case("fused_matmul_b", "FusedMatMul", [a, turn(b, 0, 2, 1)], transB=1, alpha=2.0)
    case("fused_matmul_batch_a", "FusedMatMul", [turn(a, 1, 0, 2), b], transBatchA=1)
    case("fused_matmul_batch_b", "FusedMatMul", [a, turn(b, 1, 0, 2)], transBatchB=1)
    case("fused_matmul_batch_both", "FusedMatMul", [turn(a, 2, 0, 1), turn(b, 2, 0, 1)], transBatchA=1, transA=1, transBatchB=1, transB=1)
    case("fused_matmul_batch_4", "FusedMatMul", [n.floats(4, 2, 3, 5), n.floats(2, 3, 5, 2)], transBatchA=1)
    case("fused_matmul_vector", "FusedMatMul", [n.floats(5), n.floats(5)], alpha=3.0)
    case("transpose_matmul", "TransposeMatMul", [a, turn(b, 0, 2, 1)], transB=1)
    m, k, c = n.floats(4, 5), n.floats(5, 3), n.floats(3)
    case("fused_gemm_relu", "FusedGemm", [m, k, c], activation="Relu")
    case("fused_gemm_leaky", "FusedGemm", [m, k, c], activation="LeakyRelu", activation_alpha=0.2, alpha=0.5, beta=2.0)
    case("fused_gemm_sigmoid", "FusedGemm", [m, k], activation="Sigmoid")


def packed():
    n = Numbers("packed")
    op = "MatMulNBits"
    for bits in [2, 4, 8]:
        for k, block in [(32, 16), (64, 32), (40, 16)]:
            rows, blocks = 6, -(-k // block)
            b = n.ints(rows, blocks, block * bits // 8)
            scales = n.floats(rows, blocks, scale=0.02) + F32(0.05)
            shape = dict(K=k, N=rows, bits=bits, block_size=block)
            a = n.floats(2, 3, k)
            name = f"matmul_{bits}_bits_{k}_{block}"
            case(name, op, [a, b, scales], constants=(1, 2), **shape)
            zeros = n.ints(rows, -(-blocks * bits // 8))
            case(f"{name}_zeros", op, [a, b, scales, zeros], constants=(1, 2, 3), **shape)
            floats = n.floats(rows, blocks, scale=3.0) + F32(2 ** (bits - 1))
            # ONNX Runtime has no others beside floats.
            if bits == 4:
                case(f"{name}_float_zeros", op, [a, b, scales, floats], constants=(1, 2, 3), **shape)
    b, scales = n.ints(6, 2, 8), n.floats(6, 2, scale=0.02) + F32(0.05)
    shape = dict(K=32, N=6, bits=4, block_size=16)
    case("matmul_4_bits_bias", op, [n.floats(3, 32), b, scales, None, None, n.floats(6)], constants=(1, 2, 5), **shape)
    groups = np.array([i % 2 for i in range(32)], I32)
    case("matmul_4_bits_groups", op, [n.floats(3, 32), b, scales, None, groups], constants=(1, 2, 4), **shape)


def recurrent():
    n = Numbers("recurrent")
    op = "DynamicQuantizeLSTM"
    t, b, i, h = 4, 2, 3, 5
    for name, d, direction in [("forward", 1, "forward"), ("reverse", 1, "reverse"), ("both", 2, "bidirectional")]:
        x = n.floats(t, b, i)
        w, r = n.ints(d, i, 4 * h, **NARROW), n.ints(d, h, 4 * h, **NARROW)
        bias = n.floats(d, 8 * h)
        one = [np.full(d, 0.004, F32), np.zeros(d, I8)]
        every = ["y0", "y1", "y2"]
        how = dict(hidden_size=h, direction=direction, constants=(1, 2, 8, 9, 10, 11))
        case(f"lstm_{name}", op, [x, w, r, bias, None, None, None, None, *one, *one], every, **how)
        start = [n.floats(d, b, h), n.floats(d, b, h)]
        case(f"lstm_{name}_state", op, [x, w, r, bias, np.array([4, 2], I32), *start, n.floats(d, 3 * h), *one, *one], every, **how)
        each = n.floats(d, 4 * h, scale=0.001) + F32(0.004)
        each = [each, np.zeros((d, 4 * h), I8)]
        case(f"lstm_{name}_per_column", op, [x, w, r, bias, None, None, None, None, *each, *each], every, **how)
        unsigned = [np.full(d, 0.004, F32), np.full(d, 128, U8)]
        shift = lambda q: (q.astype(I32) + 128).astype(U8)
        case(f"lstm_{name}_unsigned", op, [x, shift(w), shift(r), bias, None, None, None, None, *unsigned, *unsigned], every, **how)


def quantized():
    n = Numbers("quantized")
    for kind, zero in [(U8, 120), (I8, -5)]:
        tag = np.dtype(kind).name
        low, high = (0, 255) if kind is U8 else (-128, 127)
        ints = lambda *s: n.ints(*s, low=low, high=high, dtype=kind)
        z = lambda v: np.array(v, kind)
        f = lambda v: np.array(v, F32)
        a = [ints(2, 3, 4), f(0.031), z(zero)]
        b = [ints(3, 1), f(0.017), z(zero + 3)]
        y = [f(0.043), z(zero - 2)]
        case(f"qlinear_add_{tag}", "QLinearAdd", [*a, *b, *y])
        case(f"qlinear_mul_{tag}", "QLinearMul", [*a, *b, *y])
        case(f"qlinear_sigmoid_{tag}", "QLinearSigmoid", [*a, f(0.0039), z(low)], constants=(1, 2, 3, 4))
        case(f"qlinear_leaky_relu_{tag}", "QLinearLeakyRelu", [*a, *y], constants=(1, 2, 3, 4), alpha=0.2)
        image = [ints(1, 3, 6, 5), f(0.031), z(zero)]
        last = [np.ascontiguousarray(image[0].transpose(0, 2, 3, 1)), *image[1:]]
        pool = dict(kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
        case(f"qlinear_average_pool_{tag}", "QLinearAveragePool", [*image, *y], **pool)
        case(f"qlinear_average_pool_padding_{tag}", "QLinearAveragePool", [*image, *y], count_include_pad=1, **pool)
        case(f"qlinear_average_pool_last_{tag}", "QLinearAveragePool", [*last, *y], channels_last=1, **pool)
        case(f"qlinear_global_average_pool_{tag}", "QLinearGlobalAveragePool", [*image, *y])
        case(f"qlinear_global_average_pool_last_{tag}", "QLinearGlobalAveragePool", [*last, *y], channels_last=1)
        case(f"qlinear_concat_{tag}", "QLinearConcat", [*y, *a, ints(2, 2, 4), f(0.017), z(zero)], constants=(0, 1), axis=1)
        case(f"qlinear_softmax_{tag}", "QLinearSoftmax", [*a, f(1 / 256), z(low)], constants=(1, 2, 3, 4), axis=1, opset=13)
        case(f"qlinear_softmax_flat_{tag}", "QLinearSoftmax", [*a, f(1 / 256), z(low)], constants=(1, 2, 3, 4), axis=1, opset=11)
        case(f"qlinear_where_{tag}", "QLinearWhere", [n.ints(2, 3, 4, high=1, dtype=np.bool_), *a, *b, *y], constants=(2, 3, 5, 6, 7, 8))
        case(f"qlinear_conv_last_{tag}", "QLinearConv", [*last, n.ints(4, 3, 3, 3, low=low, high=high, dtype=kind), f(0.02), z(zero), f(0.9), z(zero)], channels_last=1, pads=[1, 1, 1, 1]) if kind is U8 else None
        case(f"nhwc_max_pool_{tag}", "NhwcMaxPool", [last[0]], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    u, i = n.ints(3, 4), n.ints(4, 5, **NARROW)
    left, right = [u, np.array(0.02, F32), np.array(110, U8)], [i, np.array(0.03, F32), np.array(4, I8)]
    out = [np.array(0.11, F32), np.array(100, U8)]
    units = n.ints(5, low=-900, high=900, dtype=I32)
    case("qgemm", "QGemm", [*left, *right, units, *out])
    case("qgemm_floats", "QGemm", [*left, *right, units], alpha=0.5)
    each = [i, n.floats(5, scale=0.01) + F32(0.03), np.zeros(5, I8)]
    case("qgemm_per_column", "QGemm", [*left, *each, units, *out])
    swapped = [np.ascontiguousarray(i.T), *right[1:]]
    case("qgemm_transposed", "QGemm", [*left, *swapped, None, *out], transB=1)
    weights = [i, np.array(0.03, F32), np.array(4, I8)]
    x = n.floats(3, 4)
    case("dynamic_matmul", "DynamicQuantizeMatMul", [x, *weights])
    case("dynamic_matmul_per_column", "DynamicQuantizeMatMul", [x, *each, n.floats(5)])
    case("matmul_integer_to_float", "MatMulIntegerToFloat", [u, i, np.array(0.02, F32), np.array(0.03, F32), np.array(110, U8), np.array(4, I8), n.floats(5)])


def activations():
    n = Numbers("activations")
    x, bias = n.floats(2, 3, 4, scale=3.0), n.floats(4)
    case("gelu", "Gelu", [x])
    case("fast_gelu", "FastGelu", [x])
    case("fast_gelu_bias", "FastGelu", [x, bias])
    case("bias_gelu", "BiasGelu", [x, bias])
    case("quick_gelu", "QuickGelu", [x])
    case("quick_gelu_alpha", "QuickGelu", [x], alpha=0.9)
    image, w = n.floats(1, 2, 5, 5), n.floats(3, 2, 3, 3)
    pads = dict(pads=[1, 1, 1, 1])
    case("fused_conv_relu", "FusedConv", [image, w, n.floats(3)], activation="Relu", **pads)
    case("fused_conv_sum", "FusedConv", [image, w, None, n.floats(1, 3, 5, 5)], activation="Relu", **pads)
    for name, parameters in [("LeakyRelu", [0.3]), ("Clip", [-0.5, 0.7]), ("HardSigmoid", [0.3, 0.4])]:
        case(f"fused_conv_{name.lower()}", "FusedConv", [image, w], activation=name, activation_params=parameters, **pads)
    for name in ["Sigmoid", "Tanh"]:
        case(f"fused_conv_{name.lower()}", "FusedConv", [image, w], activation=name, **pads)


def norms():
    n = Numbers("norms")
    x, skip = n.floats(2, 3, 8), n.floats(2, 3, 8)
    gamma, beta, bias = n.floats(8), n.floats(8), n.floats(8)
    sums = ["y0", "", "", "y3"]
    op = "SkipLayerNormalization"
    case("skip_layer_norm", op, [x, skip, gamma, beta, bias], sums)
    case("skip_layer_norm_plain", op, [x, skip, gamma], epsilon=0.01)
    case("skip_layer_norm_broadcast", op, [x, skip[:1].copy(), gamma, beta], sums)
    case("skip_layer_norm_broadcast_2", op, [x, skip[0].copy(), gamma, beta], sums)
    op = "SkipSimplifiedLayerNormalization"
    case("skip_rms_norm", op, [x, skip, gamma, bias], sums)
    case("skip_rms_norm_plain", op, [x, skip, gamma], epsilon=0.01)
    case("rms_norm", "SimplifiedLayerNormalization", [x, gamma], domain="", axis=-1, epsilon=1e-5)
    words, places, segments = n.floats(10, 8), n.floats(6, 8), n.floats(2, 8)
    ids, kinds = n.ints(2, 5, high=9, dtype=I32), n.ints(2, 5, high=1, dtype=I32)
    op = "EmbedLayerNormalization"
    tables = [words, places, segments, gamma, beta]
    case("embed", op, [ids, kinds, *tables], ["y0", "y1"])
    mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], I32)
    case("embed_mask", op, [ids, kinds, *tables, mask], ["y0", "y1", "y2"])
    case("embed_without_segments", op, [ids, None, words, places, None, gamma, beta], ["y0", "y1", "y2"])
    case("embed_positions", op, [ids, kinds, *tables, None, n.ints(1, 5, high=5, dtype=I32)], ["y0", "y1"], epsilon=0.01)


def refuse(text, op, inputs, outputs=("y0",), constants=(), **attributes):
    """A model whose refusal has to name what is not read."""
    folder = REFUSED / f"{len(list(REFUSED.glob('*')))}_{op}"
    folder.mkdir(parents=True)
    model = model_of(op, inputs, list(outputs), attributes, set(constants), "com.microsoft")
    onnx.save(model, folder / "model.onnx")
    (folder / "expected.txt").write_text(text)


def refused():
    n = Numbers("refused")
    x, w, bias = n.floats(2, 4, 8), n.floats(8, 24), n.floats(24)
    plain = dict(num_heads=2)
    refuse("`do_rotary` 1", "Attention", [x, w, bias], do_rotary=1, **plain)
    refuse("`past_present_share_buffer` 1", "Attention", [x, w, bias], past_present_share_buffer=1, **plain)
    past = n.floats(2, 2, 2, 3, 4)
    refuse("input 6", "Attention", [x, w, bias, None, past, None, np.array([1], I32)], **plain)
    refuse("the mask", "Attention", [x, w, bias, n.ints(2, 1, 8, 8, dtype=I32)], **plain)
    refuse("`num_heads`", "Attention", [x, w, bias])
    refuse("`surprise`", "Attention", [x, w, bias], surprise=1, **plain)
    refuse("qkv_hidden_sizes", "Attention", [x, w, bias], qkv_hidden_sizes=[8, 4, 12], **plain)
    q = n.floats(2, 3, 8)
    refuse("the mask", "MultiHeadAttention", [q, q, q, None, n.ints(8, dtype=I32)], **plain)
    refuse("input 8", "MultiHeadAttention", [q, q, q, *[None] * 5, np.array([1], I32)], **plain)
    refuse("`past_key` and `past_value`", "MultiHeadAttention", [q, q, q, None, None, None, n.floats(2, 2, 2, 4)], **plain)
    group = [q, q, q, None, None, np.array([2, 2], I32), np.array(3, I32)]
    plain = dict(num_heads=2, kv_num_heads=2, constants=(6,))
    op = "GroupQueryAttention"
    refuse("`sliding_window_cache` 1", op, group, sliding_window_cache=1, **plain)
    refuse("`qk_output` 1", op, group, qk_output=1, **plain)
    refuse("`k_quant_type` PER_TENSOR", op, group, k_quant_type="PER_TENSOR", **plain)
    refuse("input 12", op, group + [None] * 5 + [n.floats(1), n.floats(1)], **plain)
    refuse("input 14", op, group + [None] * 7 + [n.floats(4), n.floats(4)], **plain)
    refuse("local_window_size", op, group, causal=0, local_window_size=2, **plain)
    refuse("must be known when the model is converted", op, group, num_heads=2, kv_num_heads=2)
    places, table = np.zeros((2, 3), I64), n.floats(9, 2)
    refuse("`scale` 2", "RotaryEmbedding", [q, places, table, table], scale=2.0)
    refuse("`is_packed_batching` 1", "RotaryEmbedding", [q, places, table, table], is_packed_batching=1)
    b, scales = n.ints(6, 2, 8), n.floats(6, 2)
    shape = dict(K=32, N=6, block_size=16)
    a, groups = n.floats(3, 32), np.zeros(32, I32)
    op = "MatMulNBits"
    refuse("`g_idx` beside `zero_points`", op, [a, b, scales, n.ints(6, 1), groups], constants=(1, 2, 3, 4), bits=4, **shape)
    refuse("`weight_prepacked`", op, [a, b, scales], constants=(1, 2), bits=4, weight_prepacked=1, **shape)
    refuse("bits", op, [a, b, scales], constants=(1, 2), bits=3, **shape)
    refuse("96 packed bytes", op, [a, b[:5].copy(), scales], constants=(1, 2), bits=4, **shape)
    refuse("must be known when the model is converted", op, [a, b, scales], constants=(2,), bits=4, **shape)
    image, kernel = n.floats(1, 2, 5, 5), n.floats(3, 2, 3, 3)
    refuse("activation", "FusedConv", [image, kernel], activation="Softplus")
    refuse("activation", "FusedConv", [image, kernel], activation="Clip", activation_params=[1.0])


refused()
for family in [attention, multi_head, group_query, rotary, products, packed, recurrent, quantized, activations, norms]:
    family()
print(f"{len(MADE)} cases")
