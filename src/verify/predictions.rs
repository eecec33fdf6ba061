//! The predecessor's files of predictions and metrics: written with its key names, and read strictly.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::drift::{PairReport, Prediction, first_largest};
use super::error::VerifyError;
use super::task::{Task, TaskCase, read_bytes};
use crate::error::{Context, Result};

/// The predecessor's `<backend>_predictions.json`, with its key names and the case's id.
#[must_use]
pub fn predictions_json(task: &Task, backend: &str, model: &str, answers: &[Prediction]) -> Value {
    let text: BTreeMap<&str, Option<&str>> = task
        .cases
        .iter()
        .map(|c| (c.id.as_str(), c.text.as_deref()))
        .collect();
    let predictions: Vec<Value> = answers
        .iter()
        .map(|answer| {
            let class = task.classes.get(answer.class);
            json!({
                "class_probabilities": answer.probabilities.as_ref().map(|p| p.iter().map(|&x| figure(x)).collect::<Vec<_>>()),
                "id": answer.case,
                "predicted_answer": class.map(|c| c.name.as_str()),
                "predicted_class_id": class.map(|c| c.index),
                "predicted_class_name": class.map(|c| c.name.as_str()),
                "question": text.get(answer.case.as_str()).copied().flatten(),
            })
        })
        .collect();
    json!({
        "backend": backend,
        "config": task.name,
        "model": model,
        "predictions": predictions,
    })
}

/// The predecessor's `comparison_metrics.json`, with its key names: `pair` is `pytorch_vs_coreml` or the like.
#[must_use]
pub fn comparison_json(pair: &str, report: &PairReport) -> Value {
    json!({
        pair: {
            "exact_match_rate": figure(report.exact_match_rate),
            "mean_kl_divergence": figure(report.mean_kl_divergence),
            "mean_l2_drift": figure(report.mean_l2_drift),
        }
    })
}

fn figure(x: f64) -> Value {
    if x.is_finite() {
        json!(x)
    } else {
        json!(x.to_string())
    }
}

/// Reads predictions made elsewhere, in the predecessor's form: one for every case, matched by `id`, or by `question` where there is none.
///
/// # Errors
/// When the file cannot be parsed, a class is unknown, or a case is missing, unknown or answered twice. An unparsable answer is never class 0.
pub fn read_predictions(path: &Path, task: &Task) -> Result<Vec<Prediction>> {
    let bytes = read_bytes(path)?;
    parse_predictions(&bytes, task).at_file(path)
}

fn parse_predictions(bytes: &[u8], task: &Task) -> Result<Vec<Prediction>, VerifyError> {
    let wrong = |message: String| VerifyError::Predictions { message };
    let file: Value = crate::json::parse(bytes).map_err(|e| wrong(e.to_string()))?;
    let list = file
        .get("predictions")
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("no list `predictions`".into()))?;
    let mut answers: BTreeMap<&str, Prediction> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (i, entry) in list.iter().enumerate() {
        let case = case_of(entry, task)
            .ok_or_else(|| wrong(format!("prediction {i} answers no case of `{}`", task.name)))?;
        if !seen.insert(case.id.as_str()) {
            return Err(wrong(format!("case `{}` is answered twice", case.id)));
        }
        let class = class_of(entry, task).map_err(|what| {
            wrong(format!(
                "case `{}`: {what}, expected a class of `{}`",
                case.id, task.name
            ))
        })?;
        let probabilities = match entry.get("class_probabilities") {
            None | Some(Value::Null) => None,
            Some(list) => {
                Some(probabilities_of(list, task.classes.len()).ok_or_else(|| {
                    wrong(format!("case `{}`: bad `class_probabilities`", case.id))
                })?)
            }
        };
        if probabilities
            .as_deref()
            .is_some_and(|p| p[class] < p[first_largest(p)])
        {
            return Err(wrong(format!(
                "case `{}`: the class is not the most probable one",
                case.id
            )));
        }
        answers.insert(
            &case.id,
            Prediction {
                case: case.id.clone(),
                class,
                probabilities,
            },
        );
    }
    task.cases
        .iter()
        .map(|case| {
            answers
                .remove(case.id.as_str())
                .ok_or_else(|| wrong(format!("case `{}` is not answered", case.id)))
        })
        .collect()
}

fn case_of<'t>(entry: &Value, task: &'t Task) -> Option<&'t TaskCase> {
    let text = |key| entry.get(key).and_then(Value::as_str);
    if let Some(id) = text("id") {
        return task.cases.iter().find(|c| c.id == id);
    }
    let question = text("question")?;
    let mut found = task
        .cases
        .iter()
        .filter(|c| c.text.as_deref() == Some(question));
    match (found.next(), found.next()) {
        (Some(case), None) => Some(case),
        (_, _) => None,
    }
}

fn class_of(entry: &Value, task: &Task) -> Result<usize, String> {
    let by_id = match entry.get("predicted_class_id") {
        None | Some(Value::Null) => None,
        Some(id) => Some(
            id.as_u64()
                .and_then(|id| task.classes.iter().position(|c| c.index == id))
                .ok_or_else(|| format!("`predicted_class_id` is {id}"))?,
        ),
    };
    let name = ["predicted_class_name", "predicted_answer"]
        .into_iter()
        .find_map(|key| entry.get(key).filter(|v| !v.is_null()));
    let by_name = match name {
        None => None,
        Some(name) => Some(
            name.as_str()
                .and_then(|name| task.classes.iter().position(|c| c.name == name))
                .ok_or_else(|| format!("the class's name is {name}"))?,
        ),
    };
    match (by_id, by_name) {
        (Some(a), Some(b)) if a != b => Err("id and name are of different classes".into()),
        (Some(class), _) | (None, Some(class)) => Ok(class),
        (None, None) => Err("there is no class".into()),
    }
}

/// A distribution over the classes. What was stored in 32 bits does not sum to exactly 1, and is made to.
fn probabilities_of(list: &Value, classes: usize) -> Option<Vec<f64>> {
    let mut values: Vec<f64> = list
        .as_array()?
        .iter()
        .map(Value::as_f64)
        .collect::<Option<_>>()?;
    let sum: f64 = values.iter().sum();
    let valid = values.len() == classes
        && values.iter().all(|p| (0.0..=1.0).contains(p))
        && (sum - 1.0).abs() < 1e-3;
    values.iter_mut().for_each(|p| *p /= sum);
    valid.then_some(values)
}

#[cfg(test)]
mod tests {
    use super::super::drift::compare_predictions;
    use super::super::fixture::{answer, task};
    use super::*;

    #[test]
    fn predictions_from_elsewhere_are_never_class_zero_by_default() {
        let task = task(&[("a", &[1], None)]);
        let parse = |entry: &str| {
            parse_predictions(format!("{{\"predictions\":[{entry}]}}").as_bytes(), &task)
        };
        let good = parse(r#"{"id":"a","predicted_class_id":5,"class_probabilities":[0.25,0.75]}"#)
            .unwrap();
        assert_eq!(good[0].class, 1);
        for bad in [
            r#"{"id":"a","predicted_class_id":0}"#,
            r#"{"id":"a","predicted_class_id":"B"}"#,
            r#"{"id":"a","predicted_class_name":"C"}"#,
            r#"{"id":"a","predicted_class_id":5,"predicted_class_name":"A"}"#,
            r#"{"id":"a"}"#,
            r#"{"id":"a","predicted_class_id":null}"#,
            r#"{"id":"z","predicted_class_id":5}"#,
            r#"{"question":"?","predicted_class_id":5}"#,
            r#"{"id":"a","predicted_class_id":5,"class_probabilities":[1.0]}"#,
            r#"{"id":"a","predicted_class_id":5,"class_probabilities":[0.9,0.1]}"#,
            r#"{"id":"a","predicted_class_id":2,"predicted_class_id":5}"#,
            r#"{"id":"a","predicted_class_id":5},{"id":"a","predicted_class_id":5}"#,
            "",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse_predictions(b"nonsense", &task).is_err());
        assert!(parse_predictions(b"{}", &task).is_err());
    }

    #[test]
    fn predecessor_files_keep_their_keys() {
        let task = task(&[("a", &[1], None)]);
        let answers = vec![answer("a", 0.25)];
        let file = predictions_json(&task, "coreml", "m.mlpackage", &answers);
        assert_eq!(file["predictions"][0]["predicted_class_id"], 5);
        assert_eq!(
            file["predictions"][0]["class_probabilities"],
            json!([0.25, 0.75])
        );
        let bytes = serde_json::to_vec(&file).unwrap();
        assert_eq!(parse_predictions(&bytes, &task).unwrap(), answers);
        let pair = compare_predictions(&task, "x", &answers, answers.clone());
        assert_eq!(
            comparison_json("pytorch_vs_coreml", &pair).to_string(),
            r#"{"pytorch_vs_coreml":{"exact_match_rate":1.0,"mean_kl_divergence":0.0,"mean_l2_drift":0.0}}"#
        );
    }
}
