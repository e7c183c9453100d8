//! Pages of `tests/ir`: a graph and the program that `xla` makes of it. They need no plugin.

use cmae::backend::Request;
use cmae::backend::xla::lower::{Kernels, Scalar, module};
use cmae::graph::{Graph, Init, Layout, TensorDecl, TensorKind, text};
use cmae::op::Op;
use cmae::plan::passes;
use cmae::spec::{Recompute, Role};

use crate::command::root;
use crate::pages::Page;

/// Parameters are trained, but for those whose path starts with `fixed`.
pub fn layout(graph: &Graph) -> Layout {
    let mut tensors: Vec<TensorDecl> = Vec::new();
    for node in &graph.nodes {
        let Op::Param { path } = &node.op else { continue };
        if tensors.iter().all(|tensor| tensor.path != *path) {
            tensors.push(TensorDecl {
                path: path.clone(),
                shape: node.ty.shape.clone(),
                role: Role::Weight,
                kind: if path.starts_with("fixed") { TensorKind::Fixed } else { TensorKind::Trained },
                init: Init::Zeros,
            });
        }
    }
    Layout::new(tensors)
}

/// The program of a graph's text; `words` stand behind the fence: `f64`, `bf16`, `residual` (stored in bf16), `nvidia`, `recompute`,
/// `watch`.
pub fn program(graph: &str, words: &str) -> String {
    let graph = text::parse(graph).unwrap_or_else(|error| panic!("{error}"));
    let has = |word: &str| words.split_whitespace().any(|w| w == word);
    let request = Request {
        gradients: graph.total.is_some(),
        outputs: graph.outputs.iter().map(|(name, _)| name.clone()).collect(),
        check_finite: has("watch"),
        recompute: if has("recompute") { Recompute::Blocks } else { Recompute::None },
        bf16: has("bf16"),
        bf16_residual: has("residual"),
    };
    let passes = passes(&graph, &layout(&graph), &request).unwrap_or_else(|error| panic!("{error}"));
    let scalar = if has("f64") { Scalar::F64 } else { Scalar::F32 };
    let kernels = if has("nvidia") { Kernels::NVIDIA } else { Kernels::default() };
    module(&passes, scalar, kernels, request.check_finite).text
}

#[test]
fn programs_are_as_their_pages_say() {
    let folder = root("tests/ir");
    let mut faults = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let mut page = Page::read(entry.expect("it is readable").path());
        for at in 0..page.fences.len() {
            let Some(words) = page.fences[at].info.strip_prefix("graph") else { continue };
            let program = program(&page.fences[at].text, words);
            assert_eq!(page.fences[at + 1].info, "mlir", "a graph's program follows it");
            faults.extend(page.expect(at + 1, &program).err());
            count += 1;
        }
        page.finish();
    }
    assert!(count > 3, "the pages are read: {count}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
