//! Every op of the closed set: pages with hand-checked values, gradients against finite differences, shape rules.

mod text;
