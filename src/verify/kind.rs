//! What an output is, which decides what is judged. Owns the names and shapes that tell.

use serde::Serialize;

use crate::tensor::Tensor;

/// What an output is: what is said about it beside its differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Numbers.
    Plain,
    /// Distributions over classes: floats named `logits` or `…_logits`, of shape `[rows, classes]` or `[batch, seq, classes]` with at least two classes.
    Logits,
    /// Vectors whose direction counts: floats named `…embedding`, `…embeddings`, `…_embeds`, `pooler_output` or `last_hidden_state`.
    Embedding,
    /// One number for each row: shape `[rows, 1]`, or a single number. It has no direction, no noise and no distribution of its own.
    Score,
}

impl OutputKind {
    /// The kind of an output.
    #[must_use]
    pub fn of(name: &str, tensor: &Tensor) -> Self {
        const EMBEDDINGS: [&str; 5] = [
            "embedding",
            "embeddings",
            "_embeds",
            "pooler_output",
            "last_hidden_state",
        ];
        let shape = tensor.shape();
        if !tensor.dtype().is_float() {
            return OutputKind::Plain;
        }
        if tensor.len() == 1 || matches!(shape, [_, 1]) {
            return OutputKind::Score;
        }
        if name == "logits" || name.ends_with("_logits") {
            let classes = matches!(shape, [_, (2..)] | [_, _, (2..)]);
            return if classes {
                OutputKind::Logits
            } else {
                OutputKind::Plain
            };
        }
        if EMBEDDINGS.iter().any(|end| name.ends_with(end)) {
            return OutputKind::Embedding;
        }
        OutputKind::Plain
    }
}
