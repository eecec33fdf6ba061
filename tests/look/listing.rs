//! The listing of programs, which is a promise: the same program gives the same text.

use std::fs;

use distill_convert::coreml;

use crate::common::{root, run};

#[test]
fn programs_have_their_golden_text() {
    for name in ["counter", "loop", "several"] {
        let folder = root().join("tests/fixtures/listing");
        let model = folder.join(format!("{name}.mlmodel"));
        let golden = fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
        let text = coreml::listing(&model).unwrap();
        assert_eq!(text.trim_end(), golden.trim_end(), "{name}");
        assert_eq!(text, coreml::listing(&model).unwrap());
        let shown = run(&folder, &["inspect", "--mil", model.to_str().unwrap()]);
        assert_eq!(String::from_utf8(shown.stdout).unwrap(), golden, "{name}");
    }
}
