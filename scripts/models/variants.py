"""Makes tests/fixtures/variants: for every switch of a config that changes what a model computes, the smallest model that shows it.

    pip install torch==2.15.0 transformers==4.57.6 safetensors
    python scripts/models/variants.py tests/fixtures/variants

Weights are random, seeded, and drawn wide, so that attention is peaky and a wrong rotation, mask, window or norm shows. References are computed
in float32 with eager attention. Configs are written by transformers, then edited where the point is another spelling of the same thing.
"""

import json
import pathlib
import shutil
import sys

import torch
import transformers as t
from safetensors.torch import load_file, save_file

OUT = pathlib.Path(sys.argv[1])
V = 48


def randomise(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, p in sorted(model.named_parameters()):
            plain_norm = p.dim() == 1 and "norm" in name.lower() and name.endswith("weight") or "ln_" in name and name.endswith("weight")
            if plain_norm:
                p.copy_((0.0 if "gemma" in model.config.model_type else 1.0) + 0.3 * torch.randn_like(p))
            elif p.dim() == 1:
                p.copy_(0.3 * torch.randn_like(p))
            else:
                p.copy_(torch.randn_like(p) * (1.6 / p.shape[-1] ** 0.5))


def cases(lengths, vocab, masked, types, pad):
    for i, n in enumerate(lengths):
        g = torch.Generator().manual_seed(100 + i)
        ids = torch.randint(3, vocab, (1, n), generator=g)
        inputs = {"input_ids": ids}
        if masked and i == 1:
            mask = torch.ones_like(ids)
            mask[:, n - n // 3 :] = 0
            inputs["attention_mask"] = mask
            if pad is not None:
                ids[mask == 0] = pad
        if types:
            inputs["token_type_ids"] = (torch.arange(n)[None] > n // 2).long()
        yield f"case{i}", inputs


def make(name, cls, config, lengths=(12, 15), masked=True, types=False, pad=None, edit=None, rename=None, drop=()):
    print(name)
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    config._attn_implementation = "eager"
    model = cls._from_config(config, attn_implementation="eager").eval().float()
    randomise(model, sum(name.encode()))
    model.tie_weights()
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = {}
    for case, inputs in cases(lengths, config.vocab_size, masked, types, pad):
        with torch.no_grad():
            out = model(**inputs)
        for key, x in inputs.items():
            tensors[f"{case}.input.{key}"] = x.to(torch.int32)
        for key in ("logits", "last_hidden_state", "pooler_output"):
            x = out.get(key)
            if x is not None and key not in drop:
                tensors[f"{case}.output.{key}"] = x.float().contiguous()
    save_file(tensors, folder / "reference.safetensors")
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data.pop("transformers_version", None)
    if edit:
        edit(data)
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n")
    if rename:
        file = folder / "model.safetensors"
        save_file({rename(k): v for k, v in load_file(file).items() if rename(k)}, file)


def size(**more):
    base = dict(vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64)
    return {**base, **more}


def gqa(**more):
    return size(num_key_value_heads=2, **more)


L, LC = t.LlamaForCausalLM, t.LlamaConfig
make("llama-linear", L, LC(**gqa(rope_scaling={"type": "linear", "factor": 2.0})))
make("llama-dynamic-short", L, LC(**gqa(rope_scaling={"type": "dynamic", "factor": 2.0})))
make("llama-dynamic-long", L, LC(**gqa(rope_scaling={"rope_type": "dynamic", "factor": 2.0}, head_dim=8) | dict(max_position_embeddings=10)))
yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
make("llama-yarn", L, LC(**gqa(rope_scaling=yarn, head_dim=16)))
make("llama-yarn-mscale", L, LC(**gqa(rope_scaling=yarn | {"truncate": False, "mscale": 0.7, "mscale_all_dim": 0.4, "beta_fast": 8.0, "beta_slow": 0.5}, head_dim=16)))
make("llama-yarn-attention-factor", L, LC(**gqa(rope_scaling=yarn | {"attention_factor": 1.5}, head_dim=8)))
make("llama-biased", L, LC(**size(attention_bias=True, mlp_bias=True, tie_word_embeddings=True, hidden_act="gelu_new", rope_theta=500.0)))


def newer(data):
    data["rope_parameters"] = {"rope_type": "llama3", "rope_theta": data.pop("rope_theta"), **{k: v for k, v in data.pop("rope_scaling").items() if k != "rope_type"}}


llama3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
make("llama-rope-parameters", L, LC(**gqa(rope_scaling=llama3, rope_theta=300.0, head_dim=16)), edit=newer)
make("llama-base", t.LlamaModel, LC(**gqa(num_hidden_layers=1) | dict(num_hidden_layers=1)))
make("mistral-null-window", t.MistralForCausalLM, t.MistralConfig(**gqa(sliding_window=None)))
make("mistral-window", t.MistralForCausalLM, t.MistralConfig(**gqa(sliding_window=5)))
make("qwen2-windows", t.Qwen2ForCausalLM, t.Qwen2Config(**gqa(use_sliding_window=True, sliding_window=4, max_window_layers=1)), edit=lambda d: d.pop("layer_types"))
make("qwen2-layer-types", t.Qwen2ForCausalLM, t.Qwen2Config(**gqa(use_sliding_window=True, sliding_window=4, layer_types=["sliding_attention", "full_attention"])))
make("qwen3-biased-windows", t.Qwen3ForCausalLM, t.Qwen3Config(**gqa(use_sliding_window=True, sliding_window=6, max_window_layers=1, attention_bias=True, head_dim=8, tie_word_embeddings=True)))


def nested(data):
    theta = data.pop("rope_theta")
    section = {"rope_type": "default", "rope_theta": theta}
    data["rope_parameters"] = {"full_attention": section, "sliding_attention": section}
    del data["layer_types"]


gemma = dict(head_dim=8, query_pre_attn_scalar=12, sliding_window=4)
make("gemma2-default-layers", t.Gemma2ForCausalLM, t.Gemma2Config(**gqa(**gemma)), edit=nested)
make("gemma2-no-caps", t.Gemma2ForCausalLM, t.Gemma2Config(**gqa(**gemma, attn_logit_softcapping=None, final_logit_softcapping=None)))
gpt2 = dict(vocab_size=V, n_embd=16, n_layer=2, n_head=4, n_positions=32)
make("gpt2-by-depth", t.GPT2LMHeadModel, t.GPT2Config(**gpt2, n_inner=20, scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False))
make("gpt2-unprefixed", t.GPT2LMHeadModel, t.GPT2Config(**gpt2, activation_function="relu", scale_attn_weights=False), rename=lambda k: k.removeprefix("transformer."))
make("gpt2-base", t.GPT2Model, t.GPT2Config(**gpt2))
make("bert-poolerless", t.BertModel, t.BertConfig(**size(hidden_act="relu")), types=True, rename=lambda k: None if "pooler" in k else k, drop=("pooler_output",))
old = lambda k: k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
make("bert-gamma-beta", t.BertModel, t.BertConfig(**size(type_vocab_size=1, hidden_act="gelu_new")), rename=old)
make("roberta-base", t.RobertaModel, t.RobertaConfig(**size(type_vocab_size=1)), pad=1)
make("xlm-roberta", t.XLMRobertaForSequenceClassification, t.XLMRobertaConfig(**size(type_vocab_size=1, num_labels=3)), pad=1)
make("roberta-types", t.RobertaModel, t.RobertaConfig(**size(type_vocab_size=3)), pad=1, types=True)
distil = dict(vocab_size=V, dim=16, hidden_dim=24, n_layers=2, n_heads=4, max_position_embeddings=32)
make("distilbert-classifier", t.DistilBertForSequenceClassification, t.DistilBertConfig(**distil, num_labels=3, sinusoidal_pos_embds=True))
D, DC = t.DebertaV2Model, t.DebertaV2Config
rel = dict(relative_attention=True, position_buckets=4, max_relative_positions=-1, position_biased_input=False)
make("deberta-own-projections", D, DC(**size(**rel, pos_att_type="p2c|c2p", share_att_key=False, norm_rel_ebd="layer_norm")), lengths=(12, 40))
make("deberta-c2p", D, DC(**size(**rel, pos_att_type=["c2p"], share_att_key=True)))
make("deberta-p2c", D, DC(**size(**rel, pos_att_type=["p2c"], share_att_key=False)))
make("deberta-no-buckets", D, DC(**size(**rel | dict(position_buckets=-1, max_relative_positions=6), pos_att_type=["p2c", "c2p"], share_att_key=True)), lengths=(12, 15))
make("deberta-absolute", D, DC(**size(type_vocab_size=2, position_biased_input=True, embedding_size=8)), types=True)
make("deberta-classifier", t.DebertaV2ForSequenceClassification, DC(**size(**rel, pos_att_type=["p2c", "c2p"], share_att_key=True, num_labels=3)), lengths=(12, 15))
