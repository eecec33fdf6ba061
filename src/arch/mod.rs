//! Hugging Face config + checkpoint → IR: one decoder spec, one encoder spec, one thin adapter per architecture.
