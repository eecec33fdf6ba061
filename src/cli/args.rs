//! The command line as types. What the flags mean is said here once; the commands only read them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use distill_convert::convert::DEFAULT_OPSET;
use distill_convert::onnx::{MAX_OPSET, MIN_OPSET};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "distill-convert",
    version,
    about = "Converts trained models to ONNX and Core ML and proves that they still compute the same thing",
    long_about = "Converts trained models to ONNX and Core ML, reads back what it wrote, runs it, and compares it with the source model.\n\
                  `distill-convert --target coreml MODEL` without a subcommand means `convert`.",
    after_help = "Exit codes: 0 done and within tolerance, 1 failed, 2 wrong usage, 3 written but verification failed or could not run, 4 refused as unsafe, 130 interrupted (nothing is left)."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// Flags about the caps on untrusted input, for every command.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Change a cap on untrusted input: header-bytes=200M. `doctor` lists the caps with their reasons
    #[arg(
        long = "limit",
        value_name = "NAME=VALUE",
        global = true,
        help_heading = "Limits"
    )]
    pub(crate) limits: Vec<String>,
    /// Most memory for the tensors of the built-in interpreter: 4G, 512Mi (default: three quarters of what is free, at most 64Gi)
    #[arg(long, value_name = "SIZE", global = true, help_heading = "Limits")]
    pub(crate) max_memory: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Convert a model, read the result back, run it and compare it with the source
    #[command(after_help = "Examples:\n  \
        distill-convert --target coreml models/8ball\n  \
        distill-convert --target coreml,onnx MODEL -o OUT_FOLDER --seq 64,128,256\n  \
        distill-convert --target coreml model.onnx --dim batch=1 --dim height=320 --dim width=320\n  \
        distill-convert --target onnx model.mlpackage -o model.onnx\n  \
        distill-convert --target onnx MODEL -o model.onnx --task MODEL/task.toml --report report.json\n  \
        distill-convert --target coreml MODEL --deployment-target iOS18 --fp32-ops softmax")]
    Convert(ConvertArgs),
    /// Compare an artifact with its source model
    #[command(after_help = "Examples:\n  \
        distill-convert verify models/8ball 8ball.mlpackage --task models/8ball/task.toml\n  \
        distill-convert verify MODEL model.onnx --reference MODEL/reference.safetensors --json")]
    Verify(VerifyArgs),
    /// Run a model, an ONNX file or a Core ML package on given inputs
    #[command(after_help = "Examples:\n  \
        distill-convert run 8ball.mlpackage --inputs inputs.npz -o outputs.npz --precision f16\n  \
        distill-convert run classifier.mlpackage --input image=cat.png\n  \
        distill-convert run model.onnx --inputs inputs.safetensors -o outputs.safetensors --runtime tract")]
    Run(RunArgs),
    /// Show what a source or an artifact holds
    #[command(
        after_help = "Examples:\n  distill-convert inspect models/8ball\n  distill-convert inspect 8ball.mlpackage --json"
    )]
    Inspect(InspectArgs),
    /// Check a Core ML model as a file: what Apple's loader does not tell, and hints about the Neural Engine (exit code 1 for errors, 4 for a package that leads out of its folder)
    #[command(
        after_help = "Examples:\n  distill-convert lint 8ball.mlpackage\n  distill-convert lint model.mlmodel --json"
    )]
    Lint(LintArgs),
    /// Turn a PyTorch checkpoint into safetensors, config and lock, without running anything in it
    #[command(after_help = "Examples:\n  \
        distill-convert import pytorch_model.bin -o MODEL\n  \
        distill-convert import checkpoint.pt --config config.json -o MODEL\n  \
        distill-convert --target coreml MODEL\n\
        The checkpoint is read as data: whatever asks for more than tensors and plain values is refused (exit code 4).")]
    Import(ImportArgs),
    /// Write or check distill-convert.lock: size and SHA-256 of every file of a model folder
    #[command(
        after_help = "Examples:\n  distill-convert lock MODEL\n  distill-convert lock MODEL --check"
    )]
    Lock(LockArgs),
    /// Hash an artifact and its source again, and say what of its statement no longer holds (exit code 4)
    #[command(after_help = "Examples:\n  \
        distill-convert audit model.onnx\n  \
        distill-convert audit 8ball.mlpackage --source models/8ball --verify-key public.pem --json")]
    Audit(AuditArgs),
    /// Download the data files of one commit of a model hub, compare them with the hub's digests, and lock them
    #[command(after_help = "Examples:\n  \
        distill-convert fetch openai-community/gpt2@607a30d783dfa663caf39e06633721c8d4cfcd7e -o gpt2\n  \
        distill-convert fetch openai-community/gpt2@main\n  \
        distill-convert fetch REPO@COMMIT --cache\n\n\
        Only a full commit is fetched; for a branch or tag the commit it means today is printed. HF_ENDPOINT names another hub, HF_TOKEN\n\
        is sent to it and to nobody else, HF_HUB_CACHE and HF_HOME are honoured. Needs a build with `--features fetch`.")]
    Fetch(FetchArgs),
    /// Show which runtimes are here, where, and how to get what is missing
    Doctor(DoctorArgs),
}

/// File formats that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum TargetArg {
    /// A Core ML package (`.mlpackage`) holding an ML Program
    Coreml,
    /// An ONNX file
    Onnx,
}

/// What floats are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    /// Half precision
    #[value(alias = "f16")]
    Fp16,
    /// Single precision
    #[value(alias = "f32")]
    Fp32,
}

/// How a decoder that does not say so itself attends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttentionArg {
    /// Each position sees itself and those before it
    Causal,
    /// Every position sees every other
    Bidirectional,
}

/// How RMS normalisation is written to Core ML in half precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NormArg {
    /// `layer_norm` of `[x, -x]`: one rounding, stays on the Neural Engine
    Concat,
    /// Primitive ops in single precision
    Fp32,
    /// Primitive ops in half precision, scaled by the row's maximum
    Scaled,
}

/// Precision of the frequencies of rotary positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RotaryArg {
    /// As computed, as in a model loaded by `from_pretrained`
    F32,
    /// Rounded to the stored type, as in a model that was cast as a whole
    Stored,
}

/// Flags about reading the source.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading the source")]
pub(crate) struct SourceArgs {
    /// The model is REPO@COMMIT in the cache that hub clients share (HF_HUB_CACHE, HF_HOME); nothing is downloaded
    #[arg(long)]
    pub(crate) cache: bool,
    /// Refuse a model folder without distill-convert.lock
    #[arg(long)]
    pub(crate) require_lock: bool,
    /// Attention of a model whose config does not state it
    #[arg(long, value_enum)]
    pub(crate) attention: Option<AttentionArg>,
    /// Precision of rotary frequencies in a half-precision checkpoint [default: what the reference outputs show, else f32]
    #[arg(long, value_enum)]
    pub(crate) rotary_frequencies: Option<RotaryArg>,
    /// Convert weights that hold NaN or infinity
    #[arg(long)]
    pub(crate) allow_nonfinite: bool,
    /// Convert an ONNX model whose declared shapes of values inside the graph contradict what its operators give: those count, as in runtimes
    #[arg(long)]
    pub(crate) allow_stale_shapes: bool,
    /// What a size that varies may be: batch=1, seq=64,128,256 or seq=1..512; a size without a name is called INPUT.AXIS, those of a model folder
    /// are batch and seq. May be given several times
    #[arg(long, value_name = "NAME=SIZES")]
    pub(crate) dim: Vec<String>,
    /// Fix an input of an ONNX model at a value, so that it is no input of the result: sr=16000. May be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) constant: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// ONNX file or Core ML package
    #[arg(value_name = "ARTIFACT")]
    pub(crate) artifact: PathBuf,
    /// The statement [default: ARTIFACT.intoto.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) statement: Option<PathBuf>,
    /// What the artifact was made from (model folder, checkpoint, ONNX file or Core ML model), to be hashed again and compared with its lock
    #[arg(long, value_name = "MODEL")]
    pub(crate) source: Option<PathBuf>,
    /// The task of the verification, to be hashed again together with its tokenizer
    #[arg(long, value_name = "FILE")]
    pub(crate) task: Option<PathBuf>,
    /// The inputs of the verification, to be hashed again
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: Option<PathBuf>,
    /// The reference outputs of the verification, to be hashed again
    #[arg(long, value_name = "FILE")]
    pub(crate) reference: Option<PathBuf>,
    /// The Ed25519 key that must have signed the statement (public key in PEM, or its 32 bytes)
    #[arg(long, value_name = "KEY")]
    pub(crate) verify_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Repository and commit: ORG/NAME@40_HEX_DIGITS
    #[arg(value_name = "REPO@COMMIT")]
    pub(crate) model: String,
    /// Folder to make
    #[arg(short, long, value_name = "FOLDER", conflicts_with = "cache")]
    pub(crate) output: Option<PathBuf>,
    /// Fetch into the cache that the hub's clients share
    #[arg(long)]
    pub(crate) cache: bool,
    /// Fetch pickles as well (they are never run, but other programs may run them)
    #[arg(long)]
    pub(crate) allow_pickle: bool,
    /// Fetch ONNX files, with their external data, where the repository has safetensors as well (they are fetched where it has none)
    #[arg(long)]
    pub(crate) onnx: bool,
    /// Believe only servers whose certificates these authorities signed (PEM), as behind a proxy that opens connections [default:
    /// `SSL_CERT_FILE`, or else the public authorities built in]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// How long a server may be silent
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

/// Flags about verification.
#[derive(Debug, Args)]
#[command(next_help_heading = "Verification")]
pub(crate) struct CheckArgs {
    /// Reference outputs to compare with: `caseN.input.*` and `caseN.output.*` in .safetensors or .npz
    #[arg(long, value_name = "FILE")]
    pub(crate) reference: Option<PathBuf>,
    /// Largest accepted max|Δ| / max|reference| against --reference, where the reference itself was rounded [default: 1e-4]
    #[arg(long, value_name = "RATIO", requires = "reference")]
    pub(crate) reference_tolerance: Option<f64>,
    /// Your own inputs to compare on, instead of seeded ones
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: Option<PathBuf>,
    /// Task whose answers must be preserved (task.toml: classes and cases)
    #[arg(long, value_name = "FILE")]
    pub(crate) task: Option<PathBuf>,
    /// Write the answers to the task here: source_predictions.json, coreml_predictions.json and onnx_predictions.json (of the artifacts there
    /// are), and how they compare, comparison_metrics.json (needs --task)
    #[arg(long, value_name = "FOLDER", requires = "task")]
    pub(crate) predictions: Option<PathBuf>,
    /// Write the report here, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// ONNX Runtime's shared library (else: ORT_DYLIB_PATH, then the folder `doctor` names)
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// Model folder (config.json with model.safetensors or its shards), PyTorch checkpoint, ONNX file or Core ML model
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// What to write
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    pub(crate) target: Vec<TargetArg>,
    /// File or package to write; with several targets a folder. Default: named after the model, in the current folder
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
    /// Oldest system the Core ML package must run on: iOS15 … iOS18, macOS12 … macOS15 [default: iOS17]
    #[arg(long, value_name = "TARGET")]
    pub(crate) deployment_target: Option<String>,
    /// Precision of weights and arithmetic [default: fp16 for Core ML, fp32 for ONNX]
    #[arg(long, value_enum)]
    pub(crate) precision: Option<PrecisionArg>,
    /// The shape of an input, with ranges where it may vary: input_ids=1,128 or x=1,3,320..640,320. May be given several times
    #[arg(long, value_name = "NAME=DIMS")]
    pub(crate) shape: Vec<String>,
    /// Sequence lengths; several become one Core ML package with enumerated shapes [default: 128 for Core ML, dynamic for ONNX]
    #[arg(long, value_delimiter = ',', value_name = "LENGTHS")]
    pub(crate) seq: Vec<usize>,
    /// ONNX operator set
    #[arg(long, default_value_t = DEFAULT_OPSET, value_name = "N", value_parser = clap::value_parser!(i64).range(MIN_OPSET..=MAX_OPSET))]
    pub(crate) opset: i64,
    /// Put ONNX weights into a .data file beside the model (always done above 1.5 GB)
    #[arg(long)]
    pub(crate) external_data: bool,
    /// Write compressed weights (quantised, palettised, sparse) as plain constants. Without it they stay compressed where the target can say
    /// it, and a note tells which cannot
    #[arg(long)]
    pub(crate) expand_weights: bool,
    /// Keep these in fp32: operations (softmax) or nodes (model/layers.0/*)
    #[arg(long, value_delimiter = ',', value_name = "PATTERNS")]
    pub(crate) fp32_ops: Vec<String>,
    /// How RMS normalisation is written in fp16 (Core ML)
    #[arg(long, value_enum, default_value = "concat")]
    pub(crate) rms_norm: NormArg,
    /// Write an in-toto statement (SLSA provenance): what the artifact was made of, by what, and what was checked. `auto` puts it beside
    /// the artifact, as ARTIFACT.intoto.json
    #[arg(long, value_name = "FILE|auto")]
    pub(crate) provenance: Option<PathBuf>,
    /// Put what the statement says about the making into the artifact's metadata as well
    #[arg(long)]
    pub(crate) embed_provenance: bool,
    /// Sign the statement with this Ed25519 key (PKCS#8 in PEM, or a seed of 32 bytes)
    #[arg(long, value_name = "KEY", requires = "provenance")]
    pub(crate) sign_key: Option<PathBuf>,
    /// Function of a Core ML source [default: all of them for Core ML, the model's default one for ONNX]
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// Write the artifact without running and comparing it
    #[arg(long, conflicts_with_all = ["reference", "inputs", "task", "predictions"])]
    pub(crate) no_verify: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Model folder, PyTorch checkpoint, ONNX file or Core ML model that the artifact was made from
    #[arg(value_name = "SOURCE")]
    pub(crate) source_model: PathBuf,
    /// ONNX file or Core ML package
    #[arg(value_name = "ARTIFACT")]
    pub(crate) artifact: PathBuf,
    /// Function of a Core ML source [default: each that both have]
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

/// Engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RuntimeArg {
    /// The built-in interpreter (model folders and Core ML packages)
    Interpreter,
    /// tract (ONNX files, and anything else through a temporary ONNX file)
    Tract,
    /// ONNX Runtime (likewise)
    Ort,
}

/// Rounding of the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    /// Half-precision values are computed and kept in single precision
    #[value(alias = "fp32")]
    F32,
    /// Every operation's result is rounded to its declared type
    #[value(alias = "fp16")]
    F16,
}

/// Parses `NAME=FILE`.
fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        Some(_) | None => Err("NAME=FILE expected, for example `image=cat.png`".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Model folder, ONNX file or Core ML package
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Inputs by name, .safetensors or .npz; a model that has none is run without
    #[arg(long, value_name = "FILE")]
    pub(crate) inputs: Option<PathBuf>,
    /// A PNG or JPEG file for an image input of a Core ML model, of the very size that the model takes; may be repeated. Seen by the first step
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = named_file)]
    pub(crate) images: Vec<(String, PathBuf)>,
    /// Inputs of a further step, which sees the states that the one before left; may be repeated. Outputs of step N go to OUTPUT with `.N` before its ending
    #[arg(long, value_name = "FILE")]
    pub(crate) steps: Vec<PathBuf>,
    /// Function of a Core ML model [default: the model's]
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// Where to write the outputs, .safetensors or .npz; without it, they are only shown
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Engine [default: interpreter; tract for ONNX files]
    #[arg(long, value_enum)]
    pub(crate) runtime: Option<RuntimeArg>,
    /// Rounding of the interpreter
    #[arg(long, value_enum, default_value = "f32")]
    pub(crate) precision: ModeArg,
    /// ONNX Runtime's shared library (else: ORT_DYLIB_PATH, then the folder `doctor` names)
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Model folder, ONNX file or Core ML package
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Show the program of a Core ML model as text
    #[arg(long)]
    pub(crate) mil: bool,
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LintArgs {
    /// Core ML package or model file
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Checkpoint (.pt, .pth, .bin, .ckpt), or a model folder with one
    #[arg(value_name = "CHECKPOINT")]
    pub(crate) checkpoint: PathBuf,
    /// Folder to write: model.safetensors, config.json, distill-convert.lock, and the side files of a model folder
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) output: PathBuf,
    /// The model's config [default: config.json beside the checkpoint, or the `config` in it]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// Model folder, or a model file in it; every file of the folder and its subfolders is covered, but for hidden ones
    #[arg(value_name = "MODEL")]
    pub(crate) model: PathBuf,
    /// Check the files against the lock instead of writing it
    #[arg(long)]
    pub(crate) check: bool,
    /// Repository the files came from, to be recorded [default: with the commit, what an older lock or the hub's cache says, if it is true of
    /// every file]
    #[arg(long, conflicts_with = "check")]
    pub(crate) repo: Option<String>,
    /// Commit the files came from (40 hex digits), to be recorded
    #[arg(long, conflicts_with = "check")]
    pub(crate) revision: Option<String>,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// ONNX Runtime's shared library
    #[arg(long, value_name = "PATH")]
    pub(crate) onnxruntime: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output_format: OutputArgs,
}

/// How to answer.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print one JSON document instead of text
    #[arg(long)]
    pub(crate) json: bool,
}
