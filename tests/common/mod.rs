//! What the integration tests share: running the program, and a tiny model to break.

pub mod onnx_file;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// The project's folder.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A command that runs the program in `folder`.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_distill-convert"));
    command.current_dir(folder);
    command
}

/// Runs the program in `folder`.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder).args(arguments).output().unwrap()
}

/// Runs the program with `--json`, and gives its exit code and its one document.
pub fn run_json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = command(folder)
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let document = serde_json::from_str(&text).unwrap_or_else(|e| {
        panic!(
            "not one JSON document ({e}): {text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (output.status.code().unwrap(), document)
}

/// The entries of a folder, sorted, without the ones in `ignored`.
pub fn entries(folder: &Path, ignored: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.retain(|n| !ignored.contains(&n.as_str()));
    names.sort();
    names
}

/// A Llama of one layer with seeded weights, as parts that a test can change before it is written.
pub struct TinyModel {
    pub config: Value,
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl TinyModel {
    pub fn new() -> Self {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 16, "hidden_size": 8,
            "intermediate_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
            "tie_word_embeddings": false, "attention_bias": false, "mlp_bias": false,
        });
        let shapes: [(&str, &[usize]); 12] = [
            ("lm_head.weight", &[16, 8]),
            ("model.embed_tokens.weight", &[16, 8]),
            ("model.layers.0.input_layernorm.weight", &[8]),
            ("model.layers.0.mlp.down_proj.weight", &[8, 12]),
            ("model.layers.0.mlp.gate_proj.weight", &[12, 8]),
            ("model.layers.0.mlp.up_proj.weight", &[12, 8]),
            ("model.layers.0.post_attention_layernorm.weight", &[8]),
            ("model.layers.0.self_attn.k_proj.weight", &[4, 8]),
            ("model.layers.0.self_attn.o_proj.weight", &[8, 8]),
            ("model.layers.0.self_attn.q_proj.weight", &[8, 8]),
            ("model.layers.0.self_attn.v_proj.weight", &[4, 8]),
            ("model.norm.weight", &[8]),
        ];
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            f32::from(i16::from_le_bytes([
                (state >> 40) as u8,
                (state >> 48) as u8,
            ])) / 32768.0
        };
        let tensors = shapes.iter().map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|_| next()).collect();
            ((*name).to_owned(), (shape.to_vec(), values))
        });
        TinyModel {
            config,
            tensors: tensors.collect(),
        }
    }

    /// The tensors as safetensors bytes.
    pub fn weights(&self) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, (shape, values)) in &self.tensors {
            let start = data.len();
            data.extend(values.iter().flat_map(|x| x.to_le_bytes()));
            header.insert(
                name.clone(),
                json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}),
            );
        }
        let header = Value::Object(header).to_string();
        let mut out = (header.len() as u64).to_le_bytes().to_vec();
        out.extend(header.as_bytes());
        out.extend(data);
        out
    }

    /// Writes the model into `folder/model`.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let model = folder.join("model");
        fs::create_dir_all(&model).unwrap();
        fs::write(model.join("config.json"), self.config.to_string()).unwrap();
        fs::write(model.join("model.safetensors"), self.weights()).unwrap();
        model
    }
}

/// The arguments of a command line none of which holds a space.
pub fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// Folders with reference outputs by PyTorch: all of them where they stand beside the project or are named by an environment variable,
/// else those that the project carries.
pub fn reference_models() -> Vec<PathBuf> {
    let candidates = [
        std::env::var_os("DISTILL_REFERENCE_MODELS").map(PathBuf::from),
        Some(root().join("../shared/reference-models")),
        Some(root().join("tests/fixtures/reference-models")),
    ];
    let folder = candidates
        .into_iter()
        .flatten()
        .find(|p| p.is_dir())
        .expect("a folder with reference models");
    let mut models: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    models.retain(|path| path.join("reference.safetensors").is_file());
    models.sort();
    models
}

/// Runs one of `scripts/judges` in the judges' Python; it must succeed.
pub fn judge(script: &str, arguments: &[&Path]) {
    let python = std::env::var_os("DISTILL_JUDGES")
        .expect("DISTILL_JUDGES names the judges' Python: run scripts/test");
    let script = root().join("scripts/judges").join(script);
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
