//! The table of MIL operations: which parameters an operation has in which opset, their element types, and which of them must be constants.
//!
//! Made from `mil-ops.tsv`, one row per version of an operation and parameter. Owns the lookup, not the checks (see `lint.rs`).

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::target::Opset;

/// A parameter of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Param {
    /// Name.
    pub(crate) name: &'static str,
    /// Whether it has to be given.
    pub(crate) required: bool,
    /// Whether it takes several values.
    pub(crate) tuple: bool,
    /// Parameters with the same letter have the same element type; empty: on its own.
    pub(crate) type_variable: &'static str,
    /// Element types it takes, by name; empty: any.
    pub(crate) dtypes: Vec<&'static str>,
    /// Whether it must be a constant.
    pub(crate) constant: bool,
}

/// A version of an operation.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    from: Opset,
    to: Opset,
    /// Parameters, in order.
    pub(crate) params: Vec<Param>,
}

impl Row {
    /// The parameter of this name.
    pub(crate) fn param(&self, name: &str) -> Option<&Param> {
        self.params.iter().find(|p| p.name == name)
    }
}

type Table = BTreeMap<&'static str, Vec<Row>>;

/// The operation as it is in `opset`.
pub(crate) fn find(op: &str, opset: Opset) -> Option<&'static Row> {
    // The newest generation brought no operation of its own.
    let opset = opset.min(Opset::CoreML8);
    table()
        .get(op)?
        .iter()
        .find(|row| row.from <= opset && opset <= row.to)
}

/// Whether any operation of `opset` takes an element type: in a parameter that may be computed, or in any if it is a `constant`.
pub(crate) fn takes(dtype: &str, constant: bool, opset: Opset) -> bool {
    let opset = opset.min(Opset::CoreML8);
    table()
        .values()
        .flatten()
        .filter(|row| row.from <= opset && opset <= row.to)
        .flat_map(|row| &row.params)
        .any(|p| (constant || !p.constant) && p.dtypes.contains(&dtype))
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("mil-ops.tsv")))
}

fn parse(text: &'static str) -> Table {
    let mut table = Table::new();
    for line in text.lines().skip(1) {
        let cells: Vec<&'static str> = line.split('\t').collect();
        let [
            op,
            from,
            to,
            _index,
            name,
            required,
            kind,
            type_variable,
            dtypes,
            constant,
        ] = cells.as_slice()
        else {
            continue;
        };
        let (Some(from), Some(to)) = (opset(from), opset(to)) else {
            continue;
        };
        let rows = table.entry(op).or_default();
        let param = Param {
            name,
            required: *required == "required",
            tuple: matches!(*kind, "Tuple"),
            type_variable,
            dtypes: dtypes.split(',').filter(|d| !d.is_empty()).collect(),
            constant: *constant == "const",
        };
        match rows.iter_mut().find(|row| row.from == from && row.to == to) {
            Some(row) => row.params.push(param),
            None => rows.push(Row {
                from,
                to,
                params: vec![param],
            }),
        }
    }
    // Programs have it, Apple's library writes it for an operation of its own (`coreml_update_state`).
    let param = |name, dtypes: &[&'static str]| Param {
        name,
        required: true,
        tuple: false,
        type_variable: "",
        dtypes: dtypes.to_vec(),
        constant: false,
    };
    let write_state = Row {
        from: Opset::CoreML8,
        to: Opset::CoreML8,
        params: vec![param("input", &[]), param("data", &["fp16"])],
    };
    table.insert("write_state", vec![write_state]);
    table
}

fn opset(target: &str) -> Option<Opset> {
    match target {
        "iOS15" => Some(Opset::CoreML5),
        "iOS16" => Some(Opset::CoreML6),
        "iOS17" => Some(Opset::CoreML7),
        "iOS18" => Some(Opset::CoreML8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read_and_versions_do_not_overlap() {
        let lines = include_str!("mil-ops.tsv").lines().count() - 1;
        let read: usize = table().values().flatten().map(|r| r.params.len()).sum();
        assert_eq!((lines, read), (778, 780));
        assert_eq!(table().len(), 169);
        for (op, rows) in table() {
            for opset in &Opset::ALL[..4] {
                let versions = rows.iter().filter(|r| r.from <= *opset && *opset <= r.to);
                assert!(versions.count() <= 1, "{op}");
            }
        }
    }

    #[test]
    fn parameters_appear_with_their_opset() {
        let has = |opset| find("gather", opset).unwrap().param("validate_indices");
        assert!(has(Opset::CoreML6).is_none());
        assert!(has(Opset::CoreML7).is_some());
        assert!(has(Opset::CoreML9).is_some());
        assert!(find("scaled_dot_product_attention", Opset::CoreML7).is_none());
        let linear = find("linear", Opset::CoreML7).unwrap();
        assert!(linear.param("weight").unwrap().constant);
        assert_eq!(linear.param("bias").unwrap().type_variable, "U");
    }
}
