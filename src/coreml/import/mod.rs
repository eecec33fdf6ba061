//! ML Program → IR, by family. Written apart from the writer, by another author: a reader must not inherit the writer's mistakes.
