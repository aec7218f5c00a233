//! Trains and measures the model behind `ai_score` (`docs/score.md`).
//!
//! Contract: no part of the engine, which has the model compiled in and needs nothing of this. Reads the
//! labelled titles it is given the path of and keeps none of them. Everything is deterministic.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of titles"
)]

pub mod fit;
pub mod measure;
pub mod report;
pub mod splits;
pub mod titles;
