//! Looking at models and running them by hand: `lint`, `inspect`, `run`.

mod again;
mod images;
mod inspect;
mod lint;
mod listing;
mod run;
