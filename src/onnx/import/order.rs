//! The order of nodes: that of the file, unless a node there comes before what it takes, itself or in a graph inside it. Runtimes sort what they read.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::onnx::proto::{GraphProto, NodeProto};

/// The nodes such that each comes after those whose outputs it takes, as near to the file's order as that allows. Where some go round in a circle the order
/// stays as it is, for an error that names one of them.
pub(super) fn sorted(nodes: &[NodeProto]) -> Vec<&NodeProto> {
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            makers.entry(output).or_insert(i);
        }
    }
    let needs: Vec<BTreeSet<usize>> = nodes
        .iter()
        .map(|node| {
            let mut names = BTreeSet::new();
            taken(node, &mut names);
            names
                .iter()
                .filter_map(|n| makers.get(n).copied())
                .collect()
        })
        .collect();
    if needs
        .iter()
        .enumerate()
        .all(|(i, n)| n.last().is_none_or(|&last| last < i))
    {
        return nodes.iter().collect();
    }
    let mut takers = vec![Vec::new(); nodes.len()];
    let mut missing: Vec<usize> = needs.iter().map(BTreeSet::len).collect();
    for (i, needed) in needs.iter().enumerate() {
        needed.iter().for_each(|&n| takers[n].push(i));
    }
    let free = (0..nodes.len()).filter(|&i| missing[i] == 0);
    let mut free: BinaryHeap<Reverse<usize>> = free.map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(i)) = free.pop() {
        order.push(&nodes[i]);
        for &taker in &takers[i] {
            missing[taker] -= 1;
            if missing[taker] == 0 {
                free.push(Reverse(taker));
            }
        }
    }
    if order.len() < nodes.len() {
        return nodes.iter().collect();
    }
    order
}

/// The names that a node takes: its inputs, and what graphs inside it take from around them.
fn taken<'n>(node: &'n NodeProto, into: &mut BTreeSet<&'n str>) {
    into.extend(node.input.iter().map(String::as_str));
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            into.extend(captured(graph));
        }
    }
}

/// The names that a graph takes from around it.
fn captured(graph: &GraphProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = BTreeSet::new();
    graph.node.iter().for_each(|node| taken(node, &mut names));
    names.extend(graph.output.iter().filter_map(|o| o.name.as_deref()));
    let made = graph
        .node
        .iter()
        .flat_map(|n| &n.output)
        .map(String::as_str);
    let inputs = graph.input.iter().filter_map(|i| i.name.as_deref());
    let constants = graph.initializer.iter().filter_map(|t| t.name.as_deref());
    for own in made.chain(inputs).chain(constants) {
        names.remove(own);
    }
    names
}
