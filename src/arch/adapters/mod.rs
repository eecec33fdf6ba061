//! One adapter per architecture: config keys and tensor names in, a spec out. No adapter uses another, and none has graph code.

pub(super) mod bert;
pub(super) mod deberta_v2;
pub(super) mod distilbert;
pub(super) mod gemma2;
pub(super) mod gpt2;
pub(super) mod llama;
pub(super) mod mistral;
pub(super) mod qwen2;
pub(super) mod qwen3;
pub(super) mod roberta;
pub(super) mod student;
pub(super) mod toy_block;
