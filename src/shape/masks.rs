//! What `op::block_mask` and `op::multi_block` declare, and whether such masks can be drawn.
//!
//! **Invariant:** a mask that is declared hides something: a loss over what is hidden never divides by nothing.

use crate::decl::{BlockMask, MultiBlock};
use crate::diag::{Code, Diagnostic};
use crate::elab::{Kind, Value};

use super::arguments::{Args, Read};

/// Images that may end without any rectangle where one is wanted: past that share a batch of some is in danger.
const BARE: f64 = 0.1;

pub fn block_mask(args: &Args<'_>) -> Read<BlockMask> {
    let (rows, columns) = args.grid()?;
    let patches = (rows * columns) as f64;
    let wanted = "a count of patches, a range of ratios, or a list of such ranges";
    // A count stands for itself, a ratio for its share of the patches.
    let bounds = |value: &Value| -> Read<(f64, f64)> {
        let one = |value: &Value| match value.kind {
            Kind::Ratio(share) => Some(share * patches),
            Kind::Int(count) => Some(count as f64),
            _ => None,
        };
        let found = match &value.kind {
            Kind::Range(range) => one(&range.0).zip(one(&range.1)),
            _ => one(value).map(|n| (n, n)),
        };
        found.filter(|(low, high)| 0.0 <= *low && low <= high && *high < patches).ok_or_else(|| {
            Diagnostic::new(
                Code::OutOfRange,
                format!("`removed` of `op::block_mask` is {value}, a grid has {patches} patches"),
            )
            .label(value.span, "more than there are, or no count")
            .help("write a count such as `75`, or a range such as `10%..50%`")
        })
    };
    let removed = match args.get("removed") {
        Some(value) => match value.items() {
            Some(items) => items.iter().map(bounds).collect::<Read<Vec<_>>>()?,
            None => vec![bounds(value)?],
        },
        None => return Err(args.wrong("removed", wanted)),
    };
    if removed.is_empty() {
        return Err(args.wrong("removed", wanted));
    }
    let exact = args.flag("exact")?;
    let aspect = if args.get("aspect").is_some() { args.range("aspect")? } else { (0.3, 1.0 / 0.3) };
    if aspect.0 <= 0.0 {
        return Err(args.wrong("aspect", "a range above zero such as 0.3..3.3"));
    }
    let min_patches = args.count_or("min_patches", 16)?;
    let max_patches = args.count_or("max_patches", rows * columns)?;
    let mask = BlockMask { rows, columns, removed, min_patches, max_patches, aspect, exact };
    hides_something(&mask, args)?;
    Ok(mask)
}

/// Refuses a mask that hides nothing, always or by chance.
fn hides_something(mask: &BlockMask, args: &Args<'_>) -> Read<()> {
    let BlockMask { rows, columns, min_patches, max_patches, .. } = mask;
    let refuse = |message: String, name: &str, label: String, help: String| {
        let diagnostic = Diagnostic::new(Code::OutOfRange, message);
        let span = args.get(name).map_or(args.span, |value| value.span);
        Err(diagnostic.label(span, label).label(args.span, "in this call").help(help))
    };
    if mask.removed.iter().all(|(_, high)| *high < 1.0) {
        let shown = args.get("removed").map_or_else(String::new, |value| value.to_string());
        return refuse(
            format!("`removed` is {shown}: none of {rows} × {columns} patches is hidden"),
            "removed",
            "hides nothing".into(),
            format!("write a count from 1 to {}, or a range such as `10%..50%`", rows * columns - 1),
        );
    }
    // Where rectangles do not find a place, an exact count is met patch by patch.
    if mask.exact {
        return Ok(());
    }
    if *min_patches == 0 || max_patches < min_patches {
        return refuse(
            format!("blocks of {min_patches} to {max_patches} patches: there is none"),
            "min_patches",
            "from here".into(),
            "write `min_patches: 1` or more, and a `max_patches` that is no less".into(),
        );
    }
    // Who lists a range of nothing wants some images to have no mask.
    let some_bare = mask.removed.iter().any(|(_, high)| *high < 1.0);
    for (low, high) in mask.removed.iter().filter(|(_, high)| *high >= 1.0) {
        let least = if some_bare { *high as usize } else { *low as usize };
        if least < *min_patches {
            return refuse(
                format!("`removed` is {least} of {rows} × {columns} patches, and the smallest block has {min_patches}"),
                "removed",
                format!("{least} patches"),
                format!("write `min_patches: {}`, or remove {min_patches} or more", least.max(1)),
            );
        }
        let wanted = (*low as usize).max(*min_patches);
        let bare = libm::pow(1.0 - share_that_fits(mask, wanted), BlockMask::TRIES as f64);
        if bare > BARE {
            return refuse(
                format!(
                    "{:.0} of 100 images would hide nothing: blocks of {min_patches} to {wanted} patches are tried in a grid \
                     of {rows} × {columns}, and both sides of a block are shorter than the grid's",
                    100.0 * bare
                ),
                "grid",
                format!("{rows} × {columns} patches"),
                format!(
                    "write another `min_patches` or `removed`, or `random_mask(({rows}, {columns}), {}%)`",
                    100 * wanted.min(rows * columns - 1) / (rows * columns)
                ),
            );
        }
    }
    Ok(())
}

/// Share of the rectangles, of those drawn while `wanted` patches are to be removed, that find a place in an empty grid.
fn share_that_fits(mask: &BlockMask, wanted: usize) -> f64 {
    const CELLS: usize = 64;
    let middle = |i: usize| (i as f64 + 0.5) / CELLS as f64;
    let draws = (0..CELLS).flat_map(|i| (0..CELLS).map(move |j| (middle(i), middle(j))));
    let fits = |(area, aspect): &(f64, f64)| {
        mask.sides(wanted, *area, *aspect).is_some_and(|(height, width)| (1..=wanted).contains(&(height * width)))
    };
    draws.filter(fits).count() as f64 / (CELLS * CELLS) as f64
}

pub fn multi_block(args: &Args<'_>) -> Read<MultiBlock> {
    let (rows, columns) = args.grid()?;
    let above_zero = |name: &str, wanted: &str, most: f64| {
        let (low, high) = args.range(name)?;
        if low > 0.0 && high <= most { Ok((low, high)) } else { Err(args.wrong(name, wanted)) }
    };
    let blocks = MultiBlock {
        rows,
        columns,
        targets: args.count("targets")?,
        target_patches: args.count("target_patches")?,
        target_scale: above_zero("target_scale", "a range of shares of the grid such as 15%..20%", 1.0)?,
        target_aspect: above_zero("target_aspect", "a range above zero such as 0.75..1.5", f64::MAX)?,
        context_patches: args.count("context_patches")?,
        context_scale: above_zero("context_scale", "a range of shares of the grid such as 85%..100%", 1.0)?,
        margin: args.count_or("margin", 0)?,
    };
    let MultiBlock { targets, target_patches, context_patches, margin, .. } = blocks;
    let refuse = |message: String, name: &str, label: String, help: &str| {
        let span = args.get(name).map_or(args.span, |value| value.span);
        let diagnostic = Diagnostic::new(Code::OutOfRange, message).label(span, label);
        Err(diagnostic.label(args.span, "in this call").help(help))
    };
    if targets == 0 {
        return refuse("no target block: nothing is hidden".into(), "targets", "none".into(), "write `targets: 4`");
    }
    let (patches, reach) = (rows * columns, blocks.reach());
    if reach.0 * reach.1 < target_patches.max(1) {
        return refuse(
            format!(
                "{target_patches} patches of a target do not fit the {} × {} patches that a margin of {margin} leaves",
                reach.0, reach.1
            ),
            "target_patches",
            format!("{target_patches} patches"),
            "write smaller counts for `target_patches` and `margin`",
        );
    }
    if target_patches == 0 || context_patches == 0 || target_patches.saturating_add(context_patches) > patches {
        return refuse(
            format!(
                "{target_patches} patches of a target and {context_patches} of the context do not fit a grid of {patches}"
            ),
            "context_patches",
            format!("{context_patches} patches"),
            "write smaller counts for `target_patches` and `context_patches`, of 1 or more",
        );
    }
    Ok(blocks)
}
