//! What ranks exchange in the middle of a program: the devices that run it as its replicas, in their order.
//!
//! The engine of the plugin moves the values: NCCL on NVIDIA, RCCL on AMD, memory within a process. One operand an op: plugins
//! refuse an `all_reduce` of several, and join small ones by themselves.

use super::build::{Order, Reduction};
use super::text::{Function, Scalar, TensorType, Value};

impl Function {
    /// The blocks of all ranks along `axis`.
    pub fn all_gather(&mut self, x: &Value, axis: usize, ranks: usize) -> Value {
        if ranks == 1 {
            return x.clone();
        }
        let mut shape = x.shape().to_vec();
        shape[axis] *= ranks;
        let attributes = format!("all_gather_dim = {axis} : i64, {}", self.group(ranks));
        self.one("stablehlo.all_gather", &[x], &attributes, TensorType::new(shape, x.scalar()))
    }

    /// This rank's block along `axis`.
    pub fn own_rows(&mut self, x: &Value, axis: usize, ranks: usize) -> Value {
        if ranks == 1 {
            return x.clone();
        }
        let mut shape = x.shape().to_vec();
        shape[axis] /= ranks;
        let rank = self.one("stablehlo.replica_id", &[], "", TensorType::new([], Scalar::U32));
        let rank = self.convert(&rank, Scalar::I64);
        let start = self.times(&rank, shape[axis] as f64);
        let zero = self.constant(0.0, &TensorType::new([], Scalar::I64));
        let starts: Vec<&Value> = (0..shape.len()).map(|a| if a == axis { &start } else { &zero }).collect();
        self.dynamic_slice(x, &starts, &shape)
    }

    /// The sum of what all ranks have in the place of `x`.
    pub fn all_reduce(&mut self, x: &Value, ranks: usize) -> Value {
        if ranks == 1 {
            return x.clone();
        }
        let body = self.fold(Reduction::Sum, &TensorType::new([], x.scalar()));
        let group = self.group(ranks);
        self.op("stablehlo.all_reduce", &[x], &group, &[body], std::slice::from_ref(&x.ty)).remove(0)
    }

    /// This rank's part of the values of `x`, flat; all of them and zeros behind are `shards` such parts.
    pub fn part_of_rank(&mut self, x: &Value, shards: usize) -> Value {
        if shards == 1 {
            return x.clone();
        }
        let values = x.shape().iter().product::<usize>();
        let flat = self.reshape(x, &[values]);
        let rest = values.next_multiple_of(shards) - values;
        let zeros = self.constant(0.0, &TensorType::new([rest], x.scalar()));
        let padded = if rest == 0 { flat } else { self.concat(&[&flat, &zeros], 0) };
        self.own_rows(&padded, 0, shards)
    }

    /// A value of `shape` from the parts of all ranks.
    pub fn from_parts(&mut self, part: &Value, shape: &[usize], shards: usize) -> Value {
        if shards == 1 {
            return part.clone();
        }
        let all = self.all_gather(part, 0, shards);
        let values = self.slice(&all, &[0], &[shape.iter().product()]);
        self.reshape(&values, shape)
    }

    /// Whether `truth` holds on every rank: the same on all of them.
    pub fn all_agree(&mut self, truth: &Value, ranks: usize) -> Value {
        if ranks == 1 {
            return truth.clone();
        }
        let ty = TensorType::new([], Scalar::F32);
        let (none, one) = (self.constant(0.0, &ty), self.constant(1.0, &ty));
        let against = self.select(truth, &none, &one);
        let against = self.all_reduce(&against, ranks);
        self.compare_to(&against, Order::Eq, 0.0)
    }

    /// All ranks, under a number of its own for each exchange.
    fn group(&mut self, ranks: usize) -> String {
        self.channels += 1;
        let (list, channel) = ((0..ranks).map(|rank| rank.to_string()).collect::<Vec<_>>().join(", "), self.channels);
        format!(
            "replica_groups = dense<[[{list}]]> : tensor<1x{ranks}xi64>, \
             channel_handle = #stablehlo.channel_handle<handle = {channel}, type = 0>"
        )
    }
}
