//! The textual form of a module: what golden tests compare and `inspect` can show. Not parsed back.

use std::fmt::Write;

use super::module::{Def, Module, SymbolRange};

/// The module as text, one line per value.
#[must_use]
pub fn print(module: &Module) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_module(&mut out, module);
    out
}

fn write_module(out: &mut String, module: &Module) -> std::fmt::Result {
    writeln!(out, "module {}", module.name)?;
    for symbol in &module.symbols {
        match &symbol.range {
            SymbolRange::Between { min, max } => {
                writeln!(out, "  symbol {} in {min}..={max}", symbol.name)?
            }
            SymbolRange::OneOf(sizes) => writeln!(out, "  symbol {} in {sizes:?}", symbol.name)?,
        }
    }
    let bodies = module.bodies.iter().map(|f| ("body", f));
    let functions = module.functions.iter().map(|f| ("func", f));
    for (kind, function) in bodies.chain(functions) {
        writeln!(out, "  {kind} {}", function.name)?;
        for value in &function.values {
            match value.def {
                Def::Param(i) => {
                    writeln!(
                        out,
                        "    %{} : {} = param {:?}",
                        value.name, value.ty, function.params[i].domain
                    )?;
                }
                Def::Const(id) => {
                    let transforms = module.constant(id).transforms();
                    write!(out, "    %{} : {} = const", value.name, value.ty)?;
                    if let Some(form) = module.constant(id).stored_form() {
                        write!(out, " {}", form.form())?;
                    }
                    if !transforms.is_empty() {
                        write!(out, " {transforms:?}")?;
                    }
                    writeln!(out)?;
                }
                Def::Node(id) => {
                    let node = &function.nodes[id.0];
                    if let Some(i) = node
                        .results
                        .iter()
                        .skip(1)
                        .position(|&r| function.value(r).name == value.name)
                    {
                        let first = &function.value(node.result()).name;
                        let i = i + 1;
                        writeln!(
                            out,
                            "    %{} : {} = result {i} of %{first}",
                            value.name, value.ty
                        )?;
                        continue;
                    }
                    let operands: Vec<String> = node
                        .operands
                        .iter()
                        .map(|&v| format!("%{}", function.value(v).name))
                        .collect();
                    let attributes = attributes(&format!("{:?}", node.op));
                    writeln!(
                        out,
                        "    %{} : {} = {}({}){attributes}",
                        value.name,
                        value.ty,
                        node.op.name(),
                        operands.join(", "),
                    )?;
                }
            }
        }
        for state in &function.states {
            let param = &function.value(state.param).name;
            writeln!(
                out,
                "    state {} = %{param} then {}",
                state.name, state.output
            )?;
        }
        for output in &function.outputs {
            writeln!(
                out,
                "    output {} = %{}",
                output.name,
                function.value(output.value).name
            )?;
        }
    }
    Ok(())
}

/// The braces of `Unary(Unary { kind: Exp })`: what the name of the operation does not already say.
fn attributes(debug: &str) -> String {
    match (debug.find('{'), debug.rfind('}')) {
        (Some(from), Some(to)) if !debug.contains("kind:") || debug[from..to].contains(',') => {
            format!(" {}", &debug[from..=to])
        }
        _ => String::new(),
    }
}
