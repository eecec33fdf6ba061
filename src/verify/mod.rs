//! Inputs, metrics, tolerances, task preservation, report.
