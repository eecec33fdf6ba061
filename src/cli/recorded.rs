//! Every option of `convert` is recorded in statements, or cannot change the artifact: the definition of the command line is walked.

use clap::{CommandFactory, Parser};

use super::args::{Cli, Command};
use super::convert::request;

/// Options that are no parameters of a statement, and why.
const ELSEWHERE: [(&str, &str); 15] = [
    (
        "cache",
        "says where the files are; repository and commit are a dependency",
    ),
    ("help", "converts nothing"),
    ("inputs", "a dependency, by digest"),
    ("json", "says how to answer"),
    ("limits", "an internal parameter of every command"),
    ("max_memory", "an internal parameter of every command"),
    ("model", "dependencies, by digest"),
    (
        "onnxruntime",
        "says where an engine is; the engines that ran are in the verification",
    ),
    ("output", "says where to; names of subjects"),
    ("predictions", "written beside the artifact, not into it"),
    ("provenance", "says where to"),
    ("reference", "a dependency, by digest"),
    ("report", "written beside the artifact, not into it"),
    ("sign_key", "the envelope names the key"),
    ("task", "a dependency, by digest"),
];

/// Two ways to use every other option, which have to be recorded differently.
const RECORDED: [(&str, &[&str], &[&str]); 21] = [
    ("allow_stale_shapes", &[], &["--allow-stale-shapes"]),
    ("allow_nonfinite", &[], &["--allow-nonfinite"]),
    (
        "attention",
        &["--attention", "causal"],
        &["--attention", "bidirectional"],
    ),
    (
        "constant",
        &["--constant", "sr=16000"],
        &["--constant", "sr=16000.0"],
    ),
    (
        "deployment_target",
        &["--deployment-target", "iOS17"],
        &["--deployment-target", "iOS18"],
    ),
    ("dim", &["--dim", "seq=64,128"], &["--dim", "seq=64..128"]),
    ("embed_provenance", &[], &["--embed-provenance"]),
    ("expand_weights", &[], &["--expand-weights"]),
    (
        "external_data",
        &["--target", "onnx"],
        &["--target", "onnx", "--external-data"],
    ),
    (
        "fp32_ops",
        &["--fp32-ops", "softmax"],
        &["--fp32-ops", "softmax,gelu"],
    ),
    ("function", &["--function", "a"], &["--function", "b"]),
    ("no_verify", &[], &["--no-verify"]),
    (
        "opset",
        &["--target", "onnx", "--opset", "18"],
        &["--target", "onnx", "--opset", "19"],
    ),
    (
        "precision",
        &["--precision", "fp16"],
        &["--precision", "fp32"],
    ),
    (
        "reference_tolerance",
        &["--reference", "r.npz", "--reference-tolerance", "1e-3"],
        &["--reference", "r.npz", "--reference-tolerance", "1e-2"],
    ),
    ("require_lock", &[], &["--require-lock"]),
    (
        "rms_norm",
        &["--rms-norm", "fp32"],
        &["--rms-norm", "scaled"],
    ),
    (
        "rotary_frequencies",
        &["--rotary-frequencies", "f32"],
        &["--rotary-frequencies", "stored"],
    ),
    ("seq", &["--seq", "64"], &["--seq", "64,128"]),
    (
        "shape",
        &["--shape", "x=1,128"],
        &["--shape", "x=1,64..128"],
    ),
    ("target", &["--target", "onnx"], &["--target", "coreml"]),
];

/// What a statement has of this command line.
fn recorded(arguments: &[&str]) -> String {
    let mut all = vec!["distill-convert", "convert", "model"];
    if !arguments.contains(&"--target") {
        all.extend(["--target", "coreml"]);
    }
    all.extend(arguments);
    let Command::Convert(args) = Cli::try_parse_from(all).unwrap().command else {
        panic!("not `convert`");
    };
    let request = request(&args).unwrap();
    serde_json::to_string(&request.parameters(request.targets[0])).unwrap()
}

#[test]
fn every_option_is_recorded_or_cannot_change_the_artifact() {
    let mut cli = Cli::command();
    cli.build();
    let convert = cli.find_subcommand("convert").unwrap();
    let mut ids: Vec<&str> = convert
        .get_arguments()
        .map(|a| a.get_id().as_str())
        .collect();
    ids.sort_unstable();
    for id in &ids {
        let elsewhere = ELSEWHERE.iter().any(|(name, _)| name == id);
        let here = RECORDED.iter().any(|(name, _, _)| name == id);
        assert!(
            elsewhere != here,
            "`{id}` has to be recorded in `Request::parameters`, with two uses in RECORDED, or be in ELSEWHERE with the reason"
        );
    }
    for (name, _) in ELSEWHERE {
        assert!(ids.contains(&name), "`{name}` is no option");
    }
    for (name, one, other) in RECORDED {
        assert!(ids.contains(&name), "`{name}` is no option");
        assert_ne!(recorded(one), recorded(other), "`{name}` is not recorded");
        assert_eq!(recorded(one), recorded(one));
    }
}
