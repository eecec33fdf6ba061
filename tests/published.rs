//! Configs as they are published: the keys of well-known models, old and new, are all understood, and name the tensors that their checkpoints
//! have.

use std::path::Path;

use distill_convert::arch::{self, Options};
use distill_convert::source::{self, OpenOptions};
use distill_convert::tensor::DType;
use serde_json::{Map, Value, json};

/// A model: its config, how many tensors it consists of, and one of them with its shape.
type Row = (&'static str, Value, usize, &'static str, &'static [usize]);

/// What every config of a library of 2023 and later says besides.
fn common(mut config: Value, class: &str, kind: &str) -> Value {
    config["architectures"] = json!([class]);
    config["model_type"] = json!(kind);
    config["transformers_version"] = json!("4.44.0");
    config["use_cache"] = json!(true);
    config["initializer_range"] = json!(0.02);
    config
}

fn llama(config: Value) -> Value {
    let mut config = common(config, "LlamaForCausalLM", "llama");
    config["hidden_act"] = json!("silu");
    config["torch_dtype"] = json!("bfloat16");
    config["attention_bias"] = json!(false);
    config["rms_norm_eps"] = json!(1e-5);
    config
}

fn bert(config: Value, class: &str, kind: &str) -> Value {
    let mut config = common(config, class, kind);
    config["hidden_act"] = json!("gelu");
    config["attention_probs_dropout_prob"] = json!(0.1);
    config["hidden_dropout_prob"] = json!(0.1);
    config["position_embedding_type"] = json!("absolute");
    config["pad_token_id"] = json!(0);
    config
}

fn qwen(config: Value, class: &str, kind: &str) -> Value {
    let mut config = common(config, class, kind);
    config["hidden_act"] = json!("silu");
    config["attention_dropout"] = json!(0.0);
    config["bos_token_id"] = json!(151_643);
    config["eos_token_id"] = json!(151_645);
    config["rms_norm_eps"] = json!(1e-6);
    config["rope_theta"] = json!(1_000_000.0);
    config["vocab_size"] = json!(151_936);
    config["use_sliding_window"] = json!(false);
    config["torch_dtype"] = json!("bfloat16");
    config
}

fn decoders() -> Vec<Row> {
    let k = "model.layers.0.self_attn.k_proj.weight";
    vec![
        (
            "Llama 2 7B",
            llama(json!({
                "_name_or_path": "meta-llama/Llama-2-7b-hf", "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 4096,
                "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
                "num_key_value_heads": 32, "pretraining_tp": 1, "rope_scaling": null, "tie_word_embeddings": false, "vocab_size": 32000,
            })),
            291,
            k,
            &[4096, 4096],
        ),
        (
            "Llama 3 8B",
            llama(json!({
                "attention_dropout": 0.0, "bos_token_id": 128_000, "eos_token_id": 128_001, "hidden_size": 4096, "intermediate_size": 14336,
                "max_position_embeddings": 8192, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
                "pretraining_tp": 1, "rope_scaling": null, "rope_theta": 500_000.0, "tie_word_embeddings": false, "vocab_size": 128_256,
            })),
            291,
            k,
            &[1024, 4096],
        ),
        (
            "Llama 3.1 8B",
            llama(json!({
                "attention_dropout": 0.0, "bos_token_id": 128_000, "eos_token_id": [128_001, 128_008, 128_009], "hidden_size": 4096,
                "intermediate_size": 14336, "max_position_embeddings": 131_072, "mlp_bias": false, "num_attention_heads": 32,
                "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
                "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
                "rope_theta": 500_000.0, "tie_word_embeddings": false, "vocab_size": 128_256,
            })),
            291,
            k,
            &[1024, 4096],
        ),
        (
            "Llama 3.2 1B",
            llama(json!({
                "attention_dropout": 0.0, "bos_token_id": 128_000, "eos_token_id": 128_001, "head_dim": 64, "hidden_size": 2048,
                "intermediate_size": 8192, "max_position_embeddings": 131_072, "mlp_bias": false, "num_attention_heads": 32,
                "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
                "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
                "rope_theta": 500_000.0, "tie_word_embeddings": true, "vocab_size": 128_256,
            })),
            146,
            k,
            &[512, 2048],
        ),
        (
            "Llama 3.2 1B, written by transformers 5",
            llama(json!({
                "dtype": "bfloat16", "attention_dropout": 0.0, "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192,
                "max_position_embeddings": 131_072, "mlp_bias": false, "num_attention_heads": 32, "num_hidden_layers": 16,
                "num_key_value_heads": 8, "pretraining_tp": 1, "quantization_config": null,
                "rope_parameters": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_theta": 500_000.0, "rope_type": "llama3"},
                "tie_word_embeddings": true, "vocab_size": 128_256,
            })),
            146,
            k,
            &[512, 2048],
        ),
        (
            "TinyLlama 1.1B",
            llama(json!({
                "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 2048, "intermediate_size": 5632, "max_position_embeddings": 2048,
                "num_attention_heads": 32, "num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1, "rope_scaling": null,
                "rope_theta": 10000.0, "tie_word_embeddings": false, "vocab_size": 32000,
            })),
            201,
            k,
            &[256, 2048],
        ),
        (
            "SmolLM2 135M",
            llama(json!({
                "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 576, "intermediate_size": 1536,
                "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false, "num_attention_heads": 9,
                "num_hidden_layers": 30, "num_key_value_heads": 3, "pad_token_id": 2, "pretraining_tp": 1, "rope_interleaved": false,
                "rope_scaling": null, "rope_theta": 100_000, "tie_word_embeddings": true,
                "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16", "fp16": "float16"}}, "vocab_size": 49152,
            })),
            272,
            k,
            &[192, 576],
        ),
        (
            "Mistral 7B v0.1",
            common(
                json!({
                    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
                    "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
                    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": false,
                    "torch_dtype": "bfloat16", "vocab_size": 32000,
                }),
                "MistralForCausalLM",
                "mistral",
            ),
            291,
            k,
            &[1024, 4096],
        ),
        (
            "Mistral 7B v0.3",
            common(
                json!({
                    "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
                    "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
                    "num_key_value_heads": 8, "rms_norm_eps": 1e-5, "rope_theta": 1_000_000.0, "sliding_window": null,
                    "tie_word_embeddings": false, "torch_dtype": "bfloat16", "vocab_size": 32768,
                }),
                "MistralForCausalLM",
                "mistral",
            ),
            291,
            "model.embed_tokens.weight",
            &[32768, 4096],
        ),
        (
            "Qwen2 0.5B",
            qwen(
                json!({
                    "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 131_072, "max_window_layers": 24,
                    "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "sliding_window": 131_072,
                    "tie_word_embeddings": true,
                }),
                "Qwen2ForCausalLM",
                "qwen2",
            ),
            290,
            "model.layers.0.self_attn.k_proj.bias",
            &[128],
        ),
        (
            "Qwen2.5 0.5B",
            qwen(
                json!({
                    "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
                    "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2, "sliding_window": 32768,
                    "tie_word_embeddings": true, "use_mrope": false,
                }),
                "Qwen2ForCausalLM",
                "qwen2",
            ),
            290,
            k,
            &[128, 896],
        ),
        (
            "Qwen3 0.6B",
            qwen(
                json!({
                    "attention_bias": false, "head_dim": 128, "hidden_size": 1024, "intermediate_size": 3072,
                    "max_position_embeddings": 40960, "max_window_layers": 28, "num_attention_heads": 16, "num_hidden_layers": 28,
                    "num_key_value_heads": 8, "rope_scaling": null, "sliding_window": null, "tie_word_embeddings": true,
                }),
                "Qwen3ForCausalLM",
                "qwen3",
            ),
            310,
            "model.layers.0.self_attn.q_norm.weight",
            &[128],
        ),
        ("Gemma 2 2B", gemma(json!({})), 288, k, &[1024, 2304]),
        (
            "Gemma 2 2B, with the keys of the larger ones and of transformers 5",
            gemma(json!({"sliding_window_size": 4096, "use_bidirectional_attention": null})),
            288,
            k,
            &[1024, 2304],
        ),
        (
            "GPT-2",
            json!({
                "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
                "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-5, "model_type": "gpt2",
                "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1,
                "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true, "summary_type": "cls_index",
                "summary_use_proj": true, "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}},
                "vocab_size": 50257,
            }),
            148,
            "transformer.h.0.attn.c_attn.weight",
            &[768, 2304],
        ),
    ]
}

fn gemma(more: Value) -> Value {
    let mut config = common(
        json!({
            "attention_bias": false, "attention_dropout": 0.0, "attn_logit_softcapping": 50.0, "bos_token_id": 2,
            "cache_implementation": "hybrid", "eos_token_id": 1, "final_logit_softcapping": 30.0, "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216,
            "max_position_embeddings": 8192, "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
            "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096,
            "torch_dtype": "float32", "vocab_size": 256_000,
        }),
        "Gemma2ForCausalLM",
        "gemma2",
    );
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

fn encoders() -> Vec<Row> {
    let word = "embeddings.word_embeddings.weight";
    let base = json!({
        "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
        "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 2, "vocab_size": 30522,
    });
    let small = json!({
        "classifier_dropout": null, "hidden_size": 384, "intermediate_size": 1536, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 2, "vocab_size": 30522,
    });
    let with = |base: &Value, more: Value| {
        let mut config = base.clone();
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    };
    let roberta = json!({
        "bos_token_id": 0, "eos_token_id": 2, "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-5,
        "max_position_embeddings": 514, "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 1, "vocab_size": 50265,
    });
    let pad = |mut config: Value| {
        config["pad_token_id"] = json!(1);
        config
    };
    let distilbert = json!({
        "activation": "gelu", "attention_dropout": 0.1, "dim": 768, "dropout": 0.1, "hidden_dim": 3072, "initializer_range": 0.02,
        "max_position_embeddings": 512, "model_type": "distilbert", "n_heads": 12, "n_layers": 6, "pad_token_id": 0, "qa_dropout": 0.1,
        "seq_classif_dropout": 0.2, "sinusoidal_pos_embds": false, "tie_weights_": true, "vocab_size": 30522,
    });
    vec![
        (
            "bert-base-uncased",
            bert(
                with(&base, json!({"gradient_checkpointing": false})),
                "BertForMaskedLM",
                "bert",
            ),
            202,
            "cls.predictions.transform.dense.weight",
            &[768, 768],
        ),
        (
            "bert-base-multilingual-cased",
            bert(
                with(
                    &base,
                    json!({
                        "directionality": "bidi", "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
                        "pooler_size_per_head": 128, "pooler_type": "first_token_transform", "vocab_size": 119_547,
                    }),
                ),
                "BertForMaskedLM",
                "bert",
            ),
            202,
            "bert.embeddings.word_embeddings.weight",
            &[119547, 768],
        ),
        (
            "bert-base-NER",
            bert(
                with(
                    &base,
                    json!({
                        "_num_labels": 9, "output_past": true, "vocab_size": 28996,
                        "id2label": {"0": "O", "1": "B-MISC", "2": "I-MISC", "3": "B-PER", "4": "I-PER", "5": "B-ORG", "6": "I-ORG", "7": "B-LOC", "8": "I-LOC"},
                        "label2id": {"B-LOC": 7, "B-MISC": 1, "B-ORG": 5, "B-PER": 3, "I-LOC": 8, "I-MISC": 2, "I-ORG": 6, "I-PER": 4, "O": 0},
                        "max_length": 512,
                    }),
                ),
                "BertForTokenClassification",
                "bert",
            ),
            199,
            "classifier.weight",
            &[9, 768],
        ),
        (
            "BERT, written by transformers 5",
            bert(
                with(
                    &base,
                    json!({"dtype": "float32", "tie_word_embeddings": true, "is_decoder": false, "add_cross_attention": false}),
                ),
                "BertModel",
                "bert",
            ),
            197,
            word,
            &[30522, 768],
        ),
        (
            "roberta-base",
            pad(bert(roberta.clone(), "RobertaForMaskedLM", "roberta")),
            202,
            "lm_head.layer_norm.weight",
            &[768],
        ),
        (
            "twitter-roberta-base-sentiment",
            pad(bert(
                with(
                    &roberta,
                    json!({
                        "gradient_checkpointing": false, "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
                        "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}, "tie_word_embeddings": true,
                    }),
                ),
                "RobertaForSequenceClassification",
                "roberta",
            )),
            201,
            "classifier.out_proj.weight",
            &[3, 768],
        ),
        (
            "distilbert-base-uncased",
            with(
                &distilbert,
                json!({"architectures": ["DistilBertForMaskedLM"]}),
            ),
            105,
            "vocab_projector.bias",
            &[30522],
        ),
        (
            "distilbert-base-uncased-finetuned-sst-2-english",
            with(
                &distilbert,
                json!({
                    "architectures": ["DistilBertForSequenceClassification"], "finetuning_task": "sst-2",
                    "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}, "label2id": {"NEGATIVE": 0, "POSITIVE": 1}, "output_past": true,
                }),
            ),
            104,
            "classifier.weight",
            &[2, 768],
        ),
        (
            "deberta-v3-base",
            json!({
                "model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
                "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "max_position_embeddings": 512,
                "relative_attention": true, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": true,
                "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1, "position_biased_input": false,
                "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 0, "vocab_size": 128_100,
            }),
            198,
            "deberta.encoder.rel_embeddings.weight",
            &[512, 768],
        ),
        (
            "all-MiniLM-L6-v2",
            bert(
                with(
                    &small,
                    json!({"_name_or_path": "nreimers/MiniLM-L6-H384-uncased", "gradient_checkpointing": false, "num_hidden_layers": 6}),
                ),
                "BertModel",
                "bert",
            ),
            101,
            word,
            &[30522, 384],
        ),
        (
            "multilingual-e5-small",
            bert(
                with(
                    &small,
                    json!({"tokenizer_class": "XLMRobertaTokenizer", "vocab_size": 250_037}),
                ),
                "BertModel",
                "bert",
            ),
            197,
            word,
            &[250037, 384],
        ),
        (
            "bge-small-en-v1.5",
            bert(
                with(
                    &small,
                    json!({"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}),
                ),
                "BertModel",
                "bert",
            ),
            197,
            word,
            &[30522, 384],
        ),
        (
            "gte-base",
            bert(base.clone(), "BertModel", "bert"),
            197,
            word,
            &[30522, 768],
        ),
        (
            "bge-m3",
            pad(bert(
                json!({
                    "bos_token_id": 0, "classifier_dropout": null, "eos_token_id": 2, "hidden_size": 1024, "intermediate_size": 4096,
                    "layer_norm_eps": 1e-5, "max_position_embeddings": 8194, "num_attention_heads": 16, "num_hidden_layers": 24,
                    "output_past": true, "type_vocab_size": 1, "vocab_size": 250_002,
                }),
                "XLMRobertaModel",
                "xlm-roberta",
            )),
            389,
            word,
            &[250_002, 1024],
        ),
    ]
}

#[test]
fn published_configs_are_understood_key_by_key() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/variants/llama-yarn");
    for (name, config, tensors, tensor, shape) in decoders().into_iter().chain(encoders()) {
        let mut checkpoint = source::open(&folder, &OpenOptions::default()).unwrap();
        checkpoint.config = config.as_object().cloned().unwrap_or_else(Map::new);
        // What is missing is all that a config asks for, but for one tensor of the right name and shape: that is looked at once every key is
        // understood.
        let (_, mut only) = checkpoint.tensors.pop_first().unwrap();
        checkpoint.tensors.clear();
        only.dtype = DType::F32;
        only.shape = shape.to_vec();
        only.region.len = 4 * shape.iter().product::<usize>() as u64;
        checkpoint.tensors.insert(tensor.to_owned(), only);
        let error = arch::build(&checkpoint, &Options::default()).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.code(), "tensors_mismatch", "{name}: {text}");
        let missing = format!("({} problems)", tensors - 1);
        assert!(text.contains(&missing), "{name}: {text}");
    }
}
