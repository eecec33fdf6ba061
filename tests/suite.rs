//! All integration tests, in one binary so that the engines are linked once.
