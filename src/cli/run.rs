//! `run`: a model on given inputs.
