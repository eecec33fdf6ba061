//! What configs and checkpoints may say, and what they may not: every refusal of `arch`, and the sentence-transformers modules.

use std::fs;
use std::path::{Path, PathBuf};

use distill_convert::arch::{self, Attention, Extent, Options};
use distill_convert::error::Result;
use distill_convert::eval::{Interpreter, Mode};
use distill_convert::source::{self, Checkpoint, OpenOptions};
use distill_convert::tensor::{NamedTensors, Tensor};
use serde_json::{Value, json};

fn variant(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/variants")
        .join(name)
}

fn open(folder: &Path) -> Checkpoint {
    source::open(folder, &OpenOptions::default()).unwrap()
}

fn with(name: &str, key: &str, value: Value) -> Checkpoint {
    let mut checkpoint = open(&variant(name));
    checkpoint.config.insert(key.to_owned(), value);
    checkpoint
}

fn code_and_text<T>(result: Result<T>) -> (&'static str, String) {
    let Err(error) = result else {
        panic!("nothing was refused")
    };
    (error.code(), error.to_string())
}

/// Edits one key of a config; the expected code, and a part of the message.
#[test]
fn what_a_config_may_not_say() {
    let rows: &[(&str, &str, Value, &str, &str)] = &[
        (
            "llama-yarn",
            "model_type",
            json!("mamba"),
            "unknown_architecture",
            "`mamba`; known: student, llama",
        ),
        (
            "llama-yarn",
            "architectures",
            json!(["LlamaForTokenClassification"]),
            "unknown_model_class",
            "LlamaForCausalLM, LlamaModel",
        ),
        (
            "llama-yarn",
            "no_such_key",
            json!(3),
            "config_keys_unused",
            "`no_such_key` = 3",
        ),
        (
            "llama-yarn",
            "quantization_config",
            json!({"bits": 4}),
            "config_keys_unused",
            "`quantization_config`",
        ),
        (
            "llama-yarn",
            "pretraining_tp",
            json!(2),
            "config_keys_unused",
            "`pretraining_tp` = 2",
        ),
        (
            "llama-yarn",
            "rope_scaling",
            json!({"rope_type": "longrope"}),
            "config_value_unsupported",
            "`default`, `linear`, `dynamic`, `llama3`, `yarn`",
        ),
        (
            "llama-yarn",
            "rope_scaling",
            json!({"rope_type": "linear"}),
            "config_key_missing",
            "`rope_scaling.factor`",
        ),
        (
            "llama-yarn",
            "rope_scaling",
            json!({"rope_type": "linear", "factor": 2.0, "x": 1}),
            "config_keys_unused",
            "`rope_scaling.x` = 1",
        ),
        (
            "llama-yarn",
            "rope_scaling",
            json!({"factor": 2.0}),
            "config_key_missing",
            "`rope_scaling.rope_type`",
        ),
        (
            "llama-yarn",
            "partial_rotary_factor",
            json!(0.5),
            "config_value_unsupported",
            "`partial_rotary_factor` is 0.5",
        ),
        (
            "llama-yarn",
            "hidden_act",
            json!("mish"),
            "config_value_unsupported",
            "`hidden_act` is `mish`",
        ),
        (
            "llama-yarn",
            "num_key_value_heads",
            json!(3),
            "config_value_invalid",
            "a divisor of the 4 heads",
        ),
        (
            "llama-yarn",
            "head_dim",
            json!(7),
            "config_value_unsupported",
            "even sizes",
        ),
        (
            "llama-yarn",
            "head_dim",
            json!(8),
            "tensors_mismatch",
            "`model.layers.0.self_attn.q_proj.weight` has shape [64, 16], expected [32, 16]",
        ),
        (
            "llama-yarn",
            "num_hidden_layers",
            json!(3),
            "tensors_mismatch",
            "`model.layers.2.mlp.up_proj.weight` is missing, expected shape [24, 16]",
        ),
        (
            "llama-yarn",
            "num_hidden_layers",
            json!(1),
            "tensors_mismatch",
            "`model.layers.1.mlp.up_proj.weight` [24, 16] is unexpected",
        ),
        (
            "llama-yarn",
            "num_hidden_layers",
            json!(1_000_000),
            "config_value_invalid",
            "at most 4096",
        ),
        (
            "llama-yarn",
            "vocab_size",
            json!("48"),
            "config_value_invalid",
            "`vocab_size` is \"48\"",
        ),
        (
            "llama-yarn",
            "attention_bias",
            json!(true),
            "tensors_mismatch",
            "`model.layers.0.self_attn.q_proj.bias` is missing",
        ),
        (
            "qwen2-layer-types",
            "layer_types",
            json!(["full_attention"]),
            "config_value_invalid",
            "one entry for each of the 2 layers",
        ),
        (
            "qwen2-layer-types",
            "layer_types",
            json!(["full_attention", "chunked_attention"]),
            "config_value_invalid",
            "chunked_attention",
        ),
        (
            "qwen2-layer-types",
            "use_sliding_window",
            json!(false),
            "config_value_invalid",
            "there is no sliding window",
        ),
        (
            "gpt2-base",
            "n_ctx",
            json!(16),
            "config_value_invalid",
            "`n_positions`, 32",
        ),
        (
            "bert-poolerless",
            "position_embedding_type",
            json!("relative_key"),
            "config_value_unsupported",
            "`absolute`",
        ),
        (
            "bert-poolerless",
            "is_decoder",
            json!(true),
            "config_keys_unused",
            "`is_decoder` = true",
        ),
        (
            "bert-poolerless",
            "num_attention_heads",
            json!(5),
            "config_value_invalid",
            "a divisor of the width 16",
        ),
        (
            "xlm-roberta",
            "id2label",
            json!({"0": "a", "1": "b"}),
            "tensors_mismatch",
            "`classifier.out_proj.weight` has shape [3, 16], expected [2, 16]",
        ),
        (
            "roberta-base",
            "max_position_embeddings",
            json!(2),
            "config_value_invalid",
            "more than `pad_token_id` + 1, 2",
        ),
        (
            "deberta-c2p",
            "conv_kernel_size",
            json!(3),
            "config_value_unsupported",
            "`conv_kernel_size` is 3",
        ),
        (
            "deberta-c2p",
            "pos_att_type",
            json!("c2p|p2p"),
            "config_value_unsupported",
            "`p2p`",
        ),
        (
            "deberta-c2p",
            "norm_rel_ebd",
            json!("batch_norm"),
            "config_value_unsupported",
            "`batch_norm`",
        ),
        (
            "deberta-c2p",
            "position_buckets",
            json!(200),
            "config_value_invalid",
            "twice the longest distance",
        ),
    ];
    for (name, key, value, code, part) in rows {
        let found = code_and_text(arch::build(
            &with(name, key, value.clone()),
            &Options::default(),
        ));
        assert!(
            found.0 == *code && found.1.contains(part),
            "{name} {key} {value}: {found:?}"
        );
    }
}

#[test]
fn a_model_is_known_by_its_class_when_it_states_no_type() {
    let mut checkpoint = open(&variant("llama-yarn"));
    checkpoint.config.remove("model_type");
    assert_eq!(
        arch::build(&checkpoint, &Options::default())
            .unwrap()
            .architecture,
        "llama"
    );
    checkpoint.config.remove("architectures");
    let found = code_and_text(arch::build(&checkpoint, &Options::default()));
    assert_eq!(found.0, "unknown_architecture");
}

#[test]
fn lengths_end_where_the_model_does() {
    let build = |name: &str, seq| {
        arch::build(
            &open(&variant(name)),
            &Options {
                seq,
                ..Options::default()
            },
        )
    };
    let limits = [
        ("gpt2-base", 32),
        ("bert-poolerless", 64),
        ("roberta-base", 62),
        ("distilbert-classifier", 32),
    ];
    for (name, limit) in limits {
        build(name, Extent::Fixed(limit)).unwrap();
        let found = code_and_text(build(name, Extent::OneOf(vec![4, limit + 1])));
        assert_eq!(found.0, "sequence_too_long");
        assert!(
            found.1.contains(&format!("at most {limit}: ")),
            "{}",
            found.1
        );
    }
    // A rotation has no end, but the model was not made for more.
    let built = build("llama-linear", Extent::Fixed(65)).unwrap();
    assert!(
        built
            .warnings
            .iter()
            .any(|w| w.contains("made for up to 64")),
        "{:?}",
        built.warnings
    );
    assert!(
        build("llama-linear", Extent::Fixed(64))
            .unwrap()
            .warnings
            .is_empty()
    );
}

#[test]
fn the_direction_of_attention_is_never_guessed_and_never_contradicted() {
    let options = |attention| Options {
        attention: Some(attention),
        ..Options::default()
    };
    for (name, stated) in [
        ("llama-yarn", Attention::Causal),
        ("bert-poolerless", Attention::Bidirectional),
    ] {
        let other = [Attention::Causal, Attention::Bidirectional]
            .into_iter()
            .find(|a| *a != stated)
            .unwrap();
        arch::build(&open(&variant(name)), &options(stated)).unwrap();
        let found = code_and_text(arch::build(&open(&variant(name)), &options(other)));
        assert_eq!(found.0, "attention_contradicted");
    }
    let student = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/binary");
    let built = arch::build(&open(&student), &Options::default()).unwrap();
    assert!(
        built
            .warnings
            .iter()
            .any(|w| w.starts_with("non_causal_prefill: ")),
        "{:?}",
        built.warnings
    );
    let found = code_and_text(arch::build(&open(&student), &options(Attention::Causal)));
    assert_eq!(found.0, "attention_contradicted");
    let beyond = Options {
        seq: Extent::Fixed(2049),
        ..Options::default()
    };
    assert_eq!(
        code_and_text(arch::build(&open(&student), &beyond)).0,
        "sequence_too_long"
    );
}

#[test]
fn buffers_that_follow_from_the_config_and_heads_of_pretraining_may_be_left_over() {
    let mut checkpoint = open(&variant("deberta-c2p"));
    let tensor = checkpoint.tensors["embeddings.LayerNorm.weight"].clone();
    checkpoint.tensors.insert(
        "lm_predictions.lm_head.LayerNorm.weight".into(),
        tensor.clone(),
    );
    let found = code_and_text(arch::build(&checkpoint, &Options::default()));
    assert_eq!(found.0, "tensors_mismatch");
    checkpoint.config.remove("architectures");
    let built = arch::build(&checkpoint, &Options::default()).unwrap();
    assert!(
        built.warnings[0].starts_with("1 tensors of pretraining heads"),
        "{:?}",
        built.warnings
    );
    let mut checkpoint = open(&variant("llama-yarn"));
    checkpoint.tensors.insert(
        "model.layers.0.self_attn.rotary_emb.inv_freq".into(),
        tensor,
    );
    arch::build(&checkpoint, &Options::default()).unwrap();
}

/// Values keep the names of the checkpoint's modules, and the inputs their order.
#[test]
fn values_are_named_after_modules() {
    let built = arch::build(&open(&variant("qwen2-windows")), &Options::default()).unwrap();
    let function = built.module.main().unwrap();
    let names: Vec<&str> = function.values.iter().map(|v| v.name.as_str()).collect();
    for name in [
        "model/embed_tokens",
        "model/layers.1/self_attn/q_proj",
        "model/layers.1/self_attn/softmax",
        "model/norm",
        "lm_head",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let masks = names
        .iter()
        .filter(|n| **n == "mask/causal" || n.starts_with("mask/window_4"));
    assert!(masks.count() >= 2);
    let built = arch::build(&open(&variant("bert-poolerless")), &Options::default()).unwrap();
    let function = built.module.main().unwrap();
    let params: Vec<&str> = function
        .params
        .iter()
        .map(|p| function.value(p.value).name.as_str())
        .collect();
    assert_eq!(params, ["input_ids", "attention_mask", "token_type_ids"]);
}

/// A sentence-transformers folder around a small BERT.
fn sentence_folder(pooling: &Value, modules: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(
            variant("bert-poolerless").join(file),
            folder.path().join(file),
        )
        .unwrap();
    }
    let list: Vec<Value> = [("", "Transformer"), ("1_Pooling", "Pooling")]
        .iter()
        .chain(modules)
        .enumerate()
        .map(|(i, (path, kind))| {
            json!({"idx": i, "name": i.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}")})
        })
        .collect();
    fs::write(folder.path().join("modules.json"), json!(list).to_string()).unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    fs::write(
        folder.path().join("1_Pooling/config.json"),
        pooling.to_string(),
    )
    .unwrap();
    folder
}

fn sentence_inputs() -> NamedTensors {
    let ids = (0..12).map(|i| (7 * i + 3) % 48).collect();
    let mask = vec![1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0];
    NamedTensors::from([
        (
            "input_ids".to_owned(),
            Tensor::i64(vec![2, 6], ids).unwrap(),
        ),
        (
            "attention_mask".to_owned(),
            Tensor::i64(vec![2, 6], mask).unwrap(),
        ),
        (
            "token_type_ids".to_owned(),
            Tensor::i64(vec![2, 6], vec![0; 12]).unwrap(),
        ),
    ])
}

fn embed(folder: &Path) -> (Vec<f32>, Vec<f32>) {
    let built = arch::build(&open(folder), &Options::default()).unwrap();
    let outputs: Vec<&str> = built
        .module
        .main()
        .unwrap()
        .outputs
        .iter()
        .map(|o| o.name.as_str())
        .collect();
    assert_eq!(outputs, ["sentence_embedding", "last_hidden_state"]);
    let found = Interpreter::new(&built.module, Mode::F32)
        .unwrap()
        .run(&sentence_inputs(), None)
        .unwrap();
    let floats = |name: &str| found[name].floats().unwrap().to_vec();
    (floats("sentence_embedding"), floats("last_hidden_state"))
}

/// Features of one pooling over the positions that count (5 of the first sentence, 3 of the second), by definition.
fn pooled(hidden: &[f32], sentence: usize, mode: &str) -> Vec<f32> {
    let count = [5, 3][sentence];
    let row = |t: usize| &hidden[(sentence * 6 + t) * 16..][..16];
    (0..16)
        .map(|f| {
            let sum: f32 = (0..count).map(|t| row(t)[f]).sum();
            match mode {
                "cls_token" => row(0)[f],
                "max_tokens" => (0..count)
                    .map(|t| row(t)[f])
                    .fold(f32::NEG_INFINITY, f32::max),
                "mean_tokens" => sum / count as f32,
                "mean_sqrt_len_tokens" => sum / (count as f32).sqrt(),
                "weightedmean_tokens" => {
                    let weights: f32 = (1..=count).map(|t| t as f32).sum();
                    (0..count).map(|t| (t + 1) as f32 * row(t)[f]).sum::<f32>() / weights
                }
                _ => panic!("{mode}"),
            }
        })
        .collect()
}

#[test]
fn poolings_are_computed_over_what_counts_and_joined_in_order() {
    let modes = [
        "cls_token",
        "max_tokens",
        "mean_tokens",
        "mean_sqrt_len_tokens",
        "weightedmean_tokens",
    ];
    let sets: Vec<Vec<&str>> = modes
        .iter()
        .map(|m| vec![*m])
        .chain([modes.to_vec()])
        .collect();
    for set in sets {
        let mut pooling = json!({"word_embedding_dimension": 16});
        for mode in &set {
            pooling[format!("pooling_mode_{mode}")] = json!(true);
        }
        let folder = sentence_folder(&pooling, &[]);
        let (embedding, hidden) = embed(folder.path());
        let pairs = (0..2).flat_map(|sentence| set.iter().map(move |mode| (sentence, *mode)));
        let expected: Vec<f32> = pairs
            .flat_map(|(sentence, mode)| pooled(&hidden, sentence, mode))
            .collect();
        assert_eq!(embedding.len(), expected.len());
        for (a, b) in embedding.iter().zip(&expected) {
            assert!((a - b).abs() < 1e-5, "{set:?}: {a} {b}");
        }
    }
}

/// What version 5.4 of the library and later write, and what its first versions wrote.
#[test]
fn other_spellings_of_sentence_folders_mean_the_same() {
    let usual = sentence_folder(&json!({"pooling_mode_mean_tokens": true}), &[]);
    let expected = embed(usual.path());
    let new = sentence_folder(
        &json!({"embedding_dimension": 16, "pooling_mode": "mean", "include_prompt": true}),
        &[],
    );
    let modules = json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Dropout", "type": "sentence_transformers.sentence_transformer.modules.dropout.Dropout"},
    ]);
    fs::write(new.path().join("modules.json"), modules.to_string()).unwrap();
    assert_eq!(embed(new.path()), expected);
    // Modes are joined in the order in which they are named.
    let two = sentence_folder(&json!({"pooling_mode": ["mean", "cls"]}), &[]);
    let (both, hidden) = embed(two.path());
    assert_eq!(both[16..32], pooled(&hidden, 0, "cls_token"));
    let old = sentence_folder(&json!({"pooling_mode_mean_tokens": true}), &[]);
    let inner = old.path().join("0_Transformer");
    fs::create_dir(&inner).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::rename(old.path().join(file), inner.join(file)).unwrap();
    }
    let list = fs::read_to_string(old.path().join("modules.json")).unwrap();
    let list = list.replacen("\"path\":\"\"", "\"path\":\"0_Transformer\"", 1);
    fs::write(old.path().join("modules.json"), &list).unwrap();
    assert_eq!(embed(old.path()), expected);
    fs::write(
        old.path().join("modules.json"),
        list.replace("0_Transformer", "../0_Transformer"),
    )
    .unwrap();
    source::open(old.path(), &OpenOptions::default()).unwrap_err();
}

/// Runs a model with a head of its own; gives its logits, and the hidden states that they are made of.
fn logits_and_hidden(mut checkpoint: Checkpoint, class: &str) -> (Vec<f32>, Vec<f32>) {
    let run = |checkpoint: &Checkpoint, output: &str| {
        let built = arch::build(checkpoint, &Options::default()).unwrap();
        let interpreter = Interpreter::new(&built.module, Mode::F32).unwrap();
        let found = interpreter.run(&sentence_inputs(), None).unwrap();
        found[output].floats().unwrap().to_vec()
    };
    let base = run(&open(&variant("bert-poolerless")), "last_hidden_state");
    checkpoint
        .config
        .insert("architectures".into(), json!([class]));
    (run(&checkpoint, "logits"), base)
}

fn floats(checkpoint: &Checkpoint, name: &str) -> Vec<f32> {
    let tensor = &checkpoint.tensors[name];
    let mut bytes = vec![0; tensor.region.len as usize];
    tensor
        .region
        .file
        .read_at(tensor.region.offset, &mut bytes)
        .unwrap();
    let tensor = Tensor::from_le_bytes(tensor.dtype, tensor.shape.clone(), &bytes).unwrap();
    tensor.floats().unwrap().to_vec()
}

/// `x · wᵀ + b`
fn affine(x: &[f32], w: &[f32], b: &[f32]) -> Vec<f32> {
    let dot = |row: &[f32]| -> f32 { row.iter().zip(x).map(|(a, b)| a * b).sum() };
    w.chunks(x.len()).zip(b).map(|(r, b)| dot(r) + b).collect()
}

#[test]
fn tokens_are_labelled_and_masked_words_scored_by_their_heads() {
    let mut model = open(&variant("bert-poolerless"));
    let query = "encoder.layer.0.attention.self.query";
    let names = ["weight", "bias"].map(|part| format!("{query}.{part}"));
    let mut copy = |from: &str, to: &str| {
        let tensor = model.tensors[from].clone();
        model.tensors.insert(to.to_owned(), tensor);
    };
    copy(&names[0], "classifier.weight");
    copy(&names[1], "classifier.bias");
    model.config.insert("num_labels".into(), json!(16));
    let (w, b) = (floats(&model, &names[0]), floats(&model, &names[1]));
    let (logits, hidden) = logits_and_hidden(model, "BertForTokenClassification");
    for (row, hidden) in logits.chunks(16).zip(hidden.chunks(16)) {
        for (a, b) in row.iter().zip(affine(hidden, &w, &b)) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    let mut model = open(&variant("bert-poolerless"));
    let mut copy = |from: &str, to: &str| {
        let tensor = model.tensors[from].clone();
        model.tensors.insert(to.to_owned(), tensor);
    };
    let (norm, head) = ("embeddings.LayerNorm", "cls.predictions");
    for part in ["weight", "bias"] {
        copy(
            &format!("{query}.{part}"),
            &format!("{head}.transform.dense.{part}"),
        );
        copy(
            &format!("{norm}.{part}"),
            &format!("{head}.transform.LayerNorm.{part}"),
        );
    }
    // What is tied may be there twice, and what is not part of the class may be there.
    copy(
        "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.weight",
    );
    copy(&format!("{norm}.weight"), "cls.seq_relationship.weight");
    let mut bias = model.tensors["embeddings.word_embeddings.weight"].clone();
    let width = bias.region.len / (48 * 16);
    bias.shape = vec![48];
    bias.region.len = 48 * width;
    model.tensors.insert("cls.predictions.bias".into(), bias);
    let (gain, shift) = (
        floats(&model, &format!("{norm}.weight")),
        floats(&model, &format!("{norm}.bias")),
    );
    let words = floats(&model, "embeddings.word_embeddings.weight");
    let (logits, hidden) = logits_and_hidden(model, "BertForMaskedLM");
    for (row, hidden) in logits.chunks(48).zip(hidden.chunks(16)) {
        let x: Vec<f32> = affine(hidden, &w, &b).iter().map(|x| x.max(0.0)).collect();
        let mean = x.iter().sum::<f32>() / 16.0;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 16.0;
        let scaled = x.iter().map(|x| (x - mean) / (variance + 1e-12).sqrt());
        let x: Vec<f32> = scaled
            .zip(&gain)
            .zip(&shift)
            .map(|((x, g), s)| x * g + s)
            .collect();
        for (a, b) in row.iter().zip(affine(&x, &words, &words[..48])) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}

#[test]
fn dense_and_normalise_follow_the_pooling() {
    let pooling = json!({"pooling_mode_mean_tokens": true});
    let folder = sentence_folder(
        &pooling,
        &[("2_Dense", "Dense"), ("3_Normalize", "Normalize")],
    );
    let dense = folder.path().join("2_Dense");
    fs::create_dir(&dense).unwrap();
    let config = json!({"in_features": 16, "out_features": 3, "bias": true, "activation_function": "torch.nn.modules.activation.Tanh"});
    fs::write(dense.join("config.json"), config.to_string()).unwrap();
    let weight: Vec<f32> = (0..48)
        .map(|i| ((i * 37 % 19) as f32 - 9.0) / 20.0)
        .collect();
    let bias = vec![0.1, -0.2, 0.3];
    let tensors = NamedTensors::from([
        (
            "linear.weight".to_owned(),
            Tensor::f32(vec![3, 16], weight.clone()).unwrap(),
        ),
        (
            "linear.bias".to_owned(),
            Tensor::f32(vec![3], bias.clone()).unwrap(),
        ),
    ]);
    source::write_tensors(&dense.join("model.safetensors"), &tensors).unwrap();
    let (embedding, hidden) = embed(folder.path());
    for sentence in 0..2 {
        let mean = pooled(&hidden, sentence, "mean_tokens");
        let out: Vec<f32> = (0..3)
            .map(|o| {
                (mean
                    .iter()
                    .zip(&weight[o * 16..])
                    .map(|(a, b)| a * b)
                    .sum::<f32>()
                    + bias[o])
                    .tanh()
            })
            .collect();
        let length = out.iter().map(|x| x * x).sum::<f32>().sqrt();
        for (a, b) in embedding[sentence * 3..].iter().zip(&out) {
            assert!((a - b / length).abs() < 1e-5, "{a} {}", b / length);
        }
    }
}

#[test]
fn sentence_modules_that_are_not_understood_are_refused() {
    let mean = json!({"pooling_mode_mean_tokens": true});
    let rows: [(Value, &[(&str, &str)], &str, &str); 7] = [
        (
            mean.clone(),
            &[("2_LSTM", "LSTM")],
            "unknown_sentence_module",
            "LSTM",
        ),
        (
            mean.clone(),
            &[("2_Dense", "Dense")],
            "side_file_invalid",
            "the file is not there",
        ),
        (json!({}), &[], "side_file_invalid", "no pooling mode"),
        (
            json!({"pooling_mode_lasttoken": true}),
            &[],
            "config_value_unsupported",
            "`lasttoken`",
        ),
        (
            json!({"pooling_mode": "median"}),
            &[],
            "config_value_unsupported",
            "is `median`, which is not supported; supported: `cls`, `max`, `mean`",
        ),
        (
            json!({"pooling_mode_mean_tokens": true, "x": 1}),
            &[],
            "config_keys_unused",
            "`x` = 1",
        ),
        (
            json!({"word_embedding_dimension": 8, "pooling_mode_mean_tokens": true}),
            &[],
            "config_value_invalid",
            "width of the encoder, 16",
        ),
    ];
    for (pooling, modules, code, part) in rows {
        let folder = sentence_folder(&pooling, modules);
        let found = code_and_text(arch::build(&open(folder.path()), &Options::default()));
        assert!(
            found.0 == code && found.1.contains(part),
            "{pooling} {modules:?}: {found:?}"
        );
    }
}
