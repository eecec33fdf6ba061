//! `lock`: writes or checks the lock file of a model folder.
