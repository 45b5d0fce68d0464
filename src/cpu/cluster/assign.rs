//! The assignment of least cost under a minimum cluster size, exactly.
//!
//! A transportation problem on `k` nodes: from the unconstrained optimum, push one unit at a time along the cheapest path
//! that starts in a cluster holding more than the bound and ends in a short one. An edge `a → b` costs the least
//! `D[p,b] − D[p,a]` over the points `p` of `a`: a heap per ordered pair, whose entries are deleted lazily once their
//! point has left. Edges turn negative as soon as a point sits away from its nearest cluster, so the search is Bellman
//! and Ford's. Every intermediate assignment is optimal for the sizes it has (successive shortest paths; Ahuja, Magnanti
//! and Orlin, *Network Flows*, §9.7), so the last one is optimal under the bound.
//!
//! `O(m·k)` to build, `O(k³ + k²·log m)` per unit pushed at worst.

use super::step::argmin;
use crate::mat::MatRef;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// One label per row of `costs`, every label at least `min_size` times; the caller has checked that this is possible and
/// that costs are finite.
pub(crate) fn assign_min_size(costs: MatRef<'_, f64>, min_size: usize) -> Vec<u32> {
    let mut labels: Vec<u32> = costs.iter_rows().map(argmin).collect();
    let mut residual = Residual::new(costs, min_size, &mut labels);
    let missing: usize = residual.sizes.iter().map(|&size| min_size.saturating_sub(size)).sum();
    for _ in 0..missing {
        let path = residual.cheapest_path();
        residual.push(&path);
    }
    labels
}

/// What a point costs to move; lower first, then the lower point.
#[derive(Clone, Copy, PartialEq)]
struct Move {
    cost: f64,
    point: u32,
}

impl Eq for Move {}

impl Ord for Move {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cost.total_cmp(&other.cost).then(self.point.cmp(&other.point))
    }
}

impl PartialOrd for Move {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The residual graph of the current assignment.
struct Residual<'a> {
    costs: MatRef<'a, f64>,
    labels: &'a mut [u32],
    min_size: usize,
    sizes: Vec<usize>,
    /// Moves out of cluster `a` into `b`, at `a·k + b`; some of their points may have left.
    heaps: Vec<BinaryHeap<Reverse<Move>>>,
    /// The cheapest of them, `∞` where `a` is empty.
    edges: Vec<f64>,
}

impl<'a> Residual<'a> {
    fn new(costs: MatRef<'a, f64>, min_size: usize, labels: &'a mut [u32]) -> Self {
        let k = costs.cols();
        let mut sizes = vec![0; k];
        let mut moves: Vec<Vec<Reverse<Move>>> = vec![Vec::new(); k * k];
        for (p, (cost, &label)) in costs.iter_rows().zip(labels.iter()).enumerate() {
            let from = label as usize;
            sizes[from] += 1;
            for to in (0..k).filter(|&to| to != from) {
                moves[from * k + to].push(Reverse(Move { cost: cost[to] - cost[from], point: p as u32 }));
            }
        }
        let heaps = moves.into_iter().map(BinaryHeap::from).collect();
        let mut residual = Self { costs, labels, min_size, sizes, heaps, edges: vec![f64::INFINITY; k * k] };
        (0..k).for_each(|from| residual.refresh(from));
        residual
    }

    /// Drops the moves of points that have left `from`, and prices its edges.
    fn refresh(&mut self, from: usize) {
        let k = self.sizes.len();
        for (heap, edge) in self.heaps[from * k..][..k].iter_mut().zip(&mut self.edges[from * k..][..k]) {
            while heap.peek().is_some_and(|top| self.labels[top.0.point as usize] as usize != from) {
                heap.pop();
            }
            *edge = heap.peek().map_or(f64::INFINITY, |top| top.0.cost);
        }
    }

    /// Clusters along the cheapest path from one above the bound to one below it.
    ///
    /// Distances are kept per number of edges, so that the way back always ends. Rounding can make a cycle of cost zero
    /// look negative; a cluster met twice cuts it out.
    fn cheapest_path(&self) -> Vec<usize> {
        let k = self.sizes.len();
        let source = |v: usize| if self.sizes[v] > self.min_size { 0.0 } else { f64::INFINITY };
        let mut distance: Vec<f64> = (0..k).map(source).collect();
        let mut layers: Vec<Vec<usize>> = Vec::new();
        for _ in 1..k {
            let mut next = distance.clone();
            let mut before: Vec<usize> = (0..k).collect();
            for from in (0..k).filter(|&from| distance[from] < f64::INFINITY) {
                for (to, edge) in self.edges[from * k..][..k].iter().enumerate() {
                    if distance[from] + edge < next[to] {
                        next[to] = distance[from] + edge;
                        before[to] = from;
                    }
                }
            }
            if before.iter().enumerate().all(|(v, &b)| v == b) {
                break;
            }
            layers.push(before);
            distance = next;
        }
        let short = (0..k).filter(|&v| self.sizes[v] < self.min_size);
        let end = short.min_by(|&a, &b| distance[a].total_cmp(&distance[b])).unwrap_or(0);
        let mut path = vec![end];
        for before in layers.iter().rev() {
            let (at, from) = (path[path.len() - 1], before[path[path.len() - 1]]);
            if from == at {
                continue;
            }
            if let Some(met) = path.iter().position(|&v| v == from) {
                path.truncate(met + 1);
            } else {
                path.push(from);
            }
        }
        path.reverse();
        path
    }

    /// Moves one point along every edge of `path`.
    fn push(&mut self, path: &[usize]) {
        let k = self.sizes.len();
        // Every edge takes a point that was in its cluster before the push, so the moves do not affect each other.
        let moved: Vec<(u32, usize)> = path
            .windows(2)
            .filter_map(|edge| self.heaps[edge[0] * k + edge[1]].pop().map(|top| (top.0.point, edge[1])))
            .collect();
        for (point, to) in moved {
            let from = std::mem::replace(&mut self.labels[point as usize], to as u32) as usize;
            self.sizes[from] -= 1;
            self.sizes[to] += 1;
            let cost = self.costs.row(point as usize);
            for next in (0..k).filter(|&next| next != to) {
                self.heaps[to * k + next].push(Reverse(Move { cost: cost[next] - cost[to], point }));
            }
        }
        path.iter().for_each(|&v| self.refresh(v));
    }
}
