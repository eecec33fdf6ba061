//! Which values parameters may take, as text for formats that cannot say it, and as far as the graph and the names tell.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use super::compose::{derive_domains, derive_masks};
use super::module::{Domain, Function, Module};
use super::types::IrError;

/// The metadata key: a list of pairs, the parameter's name and `"mask"`, `"pixel"` or the bound of its indices.
pub const DOMAINS_KEY: &str = "com.distill-convert.domains";

/// What the domains of the parameters are, unless none is restricted.
#[must_use]
pub fn domains_text(function: &Function) -> Option<String> {
    let pairs = function.params.iter().filter_map(|param| {
        let name = &function.value(param.value).name;
        match param.domain {
            Domain::Any => None,
            Domain::Index { below } => Some(json!([name, below])),
            Domain::Mask => Some(json!([name, "mask"])),
            Domain::Pixel => Some(json!([name, "pixel"])),
        }
    });
    let pairs: Vec<Json> = pairs.collect();
    (!pairs.is_empty()).then(|| Json::from(pairs).to_string())
}

/// Gives the parameters of the default function the domains that follow from the graph, that `record` states, and that their names tell.
/// `known` are names that the record may hold though they are no parameters: inputs that were fixed.
///
/// # Errors
/// When the record is malformed, names what is no parameter, or restricts one that holds no whole numbers.
pub fn settle_domains(
    module: &mut Module,
    record: Option<&str>,
    known: &BTreeSet<&str>,
) -> Result<(), IrError> {
    derive_domains(module);
    let refuse = |problem: String| IrError::Domains { problem };
    let pairs: Vec<(String, Json)> = match record {
        Some(text) => serde_json::from_str(text)
            .map_err(|e| refuse(format!("expected a list of pairs, found {e}")))?,
        None => Vec::new(),
    };
    let mut stated = BTreeMap::new();
    for (name, value) in pairs {
        let domain = match (value.as_u64(), value.as_str()) {
            (Some(below), _) if below > 0 => Domain::Index { below },
            (None, Some("mask")) => Domain::Mask,
            (None, Some("pixel")) => Domain::Pixel,
            (_, _) => {
                return Err(refuse(format!(
                    "`{name}`: expected `mask`, `pixel` or a positive number, found `{value}`"
                )));
            }
        };
        if stated.insert(name.clone(), domain).is_some() {
            return Err(refuse(format!("`{name}` is there twice")));
        }
    }
    if let Some(function) = module.functions.first_mut() {
        for param in &mut function.params {
            let Some(value) = function.values.get(param.value.index()) else {
                continue;
            };
            let Some(stated) = stated.remove(&value.name) else {
                continue;
            };
            if value.ty.dtype.is_float() && matches!(stated, Domain::Index { .. }) {
                return Err(refuse(format!("`{}` holds no indices", value.name)));
            }
            param.domain = match (&param.domain, stated) {
                // The graph's bound is a fact.
                (Domain::Index { below }, Domain::Index { below: stated }) => Domain::Index {
                    below: stated.min(*below),
                },
                (_, stated) => stated,
            };
        }
    }
    if let Some(name) = stated.into_keys().find(|n| !known.contains(n.as_str())) {
        return Err(refuse(format!("`{name}` is no input")));
    }
    derive_masks(module);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::ops::{Compare, CompareKind, Gather};
    use super::super::{Builder, Op, Type};
    use super::*;
    use crate::tensor::{DType, Tensor};

    /// `ids` look up a table of 3 rows, `valid` is compared with 0, `count` is only cast, `bytes` are compared with 5 indices.
    fn module() -> Module {
        let mut b = Builder::new("m");
        let mut param = |name: &str| {
            let ty = Type::known(DType::I32, &[1, 4]);
            b.param(name, ty, Domain::Any).unwrap()
        };
        let (ids, valid, count, mask, bytes) = (
            param("ids"),
            param("valid"),
            param("count"),
            param("pad_mask"),
            param("bytes"),
        );
        let table = Tensor::f32(vec![3], vec![1.0; 3]).unwrap();
        let table = b.tensor("table", &table).unwrap();
        let rows = b.push("rows", Op::Gather(Gather { axis: 0 }), &[table, ids]);
        b.output("rows", rows.unwrap()).unwrap();
        let zero = Tensor::int(DType::I32, vec![], vec![0]).unwrap();
        let zero = b.tensor("zero", &zero).unwrap();
        let kind = CompareKind::Greater;
        let is = b.push("is", Op::Compare(Compare { kind }), &[valid, zero]);
        b.output("is", is.unwrap()).unwrap();
        let all = Tensor::int(DType::I32, vec![5, 1], vec![0, 1, 2, 3, 4]).unwrap();
        let all = b.tensor("all", &all).unwrap();
        let kind = CompareKind::Equal;
        let hot = b.push("hot", Op::Compare(Compare { kind }), &[bytes, all]);
        b.output("hot", hot.unwrap()).unwrap();
        for (name, value) in [("c", count), ("m", mask)] {
            let cast = b.cast(name, value, DType::F32).unwrap();
            b.output(name, cast).unwrap();
        }
        b.finish().unwrap()
    }

    fn domains(module: &Module) -> Vec<Domain> {
        let params = &module.main().unwrap().params;
        params.iter().map(|p| p.domain.clone()).collect()
    }

    #[test]
    fn graphs_and_names_tell_domains_and_records_keep_them() {
        let none = BTreeSet::new();
        let mut plain = module();
        settle_domains(&mut plain, None, &none).unwrap();
        let index = |below| Domain::Index { below };
        assert_eq!(
            domains(&plain),
            [index(3), Domain::Mask, Domain::Any, Domain::Mask, index(5)]
        );
        let text = domains_text(plain.main().unwrap()).unwrap();
        assert_eq!(
            text,
            r#"[["ids",3],["valid","mask"],["pad_mask","mask"],["bytes",5]]"#
        );
        let mut again = module();
        settle_domains(&mut again, Some(&text), &none).unwrap();
        assert_eq!(domains(&again), domains(&plain));
        let mut counted = module();
        let record = r#"[["count",9],["ids",50],["sr",2]]"#;
        settle_domains(&mut counted, Some(record), &BTreeSet::from(["sr"])).unwrap();
        assert_eq!(domains(&counted)[..3], [index(3), Domain::Mask, index(9)]);
    }

    #[test]
    fn a_record_that_does_not_fit_is_refused() {
        for (record, why) in [
            (r#"[["x",3]]"#, "`x` is no input"),
            (r#"[["ids",3],["ids",3]]"#, "`ids` is there twice"),
            (r#"[["ids",0]]"#, "positive number"),
            (r#"[["ids","any"]]"#, "expected `mask`"),
            (r#"{"ids":3}"#, "list of pairs"),
        ] {
            let error = settle_domains(&mut module(), Some(record), &BTreeSet::new()).unwrap_err();
            assert!(error.to_string().contains(why), "{record}: {error}");
        }
    }
}
