//! RandAugment: operations drawn from one list, all of one magnitude.
//!
//! **Invariant:** each operation is torchvision's of that name, and its strength that of torchvision's `RandAugment` at that magnitude.

use super::{Draw, affine, color, tone};
use crate::data::Image;

/// What may be done to a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}
use Operation::{
    AutoContrast, Brightness, Color, Contrast, Equalize, Identity, Posterize, Rotate, Sharpness, ShearX, ShearY,
    Solarize, TranslateX, TranslateY,
};

/// A step on a scale: 0 is the weakest of `bins`, `bins − 1` the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Magnitude {
    pub level: usize,
    pub bins: usize,
}

impl Operation {
    /// Source: Cubuk et al. 2020 (RandAugment), section 3, in the order of torchvision's.
    pub const ALL: [Operation; 14] = [
        Identity,
        ShearX,
        ShearY,
        TranslateX,
        TranslateY,
        Rotate,
        Brightness,
        Color,
        Contrast,
        Sharpness,
        Posterize,
        Solarize,
        AutoContrast,
        Equalize,
    ];

    /// That of this name, which is torchvision's.
    pub fn named(name: &str) -> Option<Operation> {
        Operation::ALL.into_iter().find(|operation| format!("{operation:?}") == name)
    }

    /// Whether it goes two ways, of which one is drawn.
    pub fn has_sign(self) -> bool {
        match self {
            ShearX | ShearY | TranslateX | TranslateY | Rotate | Brightness | Color | Contrast | Sharpness => true,
            Identity | Posterize | Solarize | AutoContrast | Equalize => false,
        }
    }

    /// The picture after it; `negative` is the other way, of what goes two ways.
    pub fn apply(self, image: Image, magnitude: Magnitude, negative: bool) -> Image {
        let (height, width) = (image.height as f64, image.width as f64);
        // Shares of a side that a shift goes at most: 150 pixels of 331, as the search of AutoAugment had it.
        let end = match self {
            ShearX | ShearY => 0.3,
            TranslateX => 150.0 / 331.0 * width,
            TranslateY => 150.0 / 331.0 * height,
            Rotate => 30.0,
            Brightness | Color | Contrast | Sharpness => 0.9,
            Identity | Posterize | Solarize | AutoContrast | Equalize => 0.0,
        };
        let amount = f64::from(magnitude.between(0.0, end as f32));
        let amount = if negative { -amount } else { amount };
        match self {
            Identity => image,
            ShearX => affine::shear_x(&image, amount),
            ShearY => affine::shear_y(&image, amount),
            TranslateX => affine::translate(&image, amount as i32, 0),
            TranslateY => affine::translate(&image, 0, amount as i32),
            Rotate => affine::rotate(&image, amount),
            Brightness => color::brightness(image, 1.0 + amount),
            Color => color::saturation(image, 1.0 + amount),
            Contrast => color::contrast(image, 1.0 + amount),
            Sharpness => tone::sharpness(&image, 1.0 + amount),
            Posterize => tone::posterize(image, magnitude.bits()),
            // From a threshold of 255, which only white reaches, down to one of 0.
            Solarize => color::solarize(image, (255.0 * f64::from(magnitude.between(1.0, 0.0))).ceil() as u8),
            AutoContrast => tone::auto_contrast(image),
            Equalize => tone::equalize(image),
        }
    }
}

impl Magnitude {
    /// A number as far from `start` to `end` as the magnitude is; in f32 and from the nearer end, as torch's `linspace` is.
    fn between(self, start: f32, end: f32) -> f32 {
        let last = self.bins.saturating_sub(1);
        let step = (end - start) / last.max(1) as f32;
        if self.level < self.bins / 2 {
            step.mul_add(self.level as f32, start)
        } else {
            (-step).mul_add(last.saturating_sub(self.level) as f32, end)
        }
    }

    /// Bits that are left of each level: 8 down to 4.
    fn bits(self) -> u32 {
        let quarter = self.bins.saturating_sub(1).max(1) as f32 / 4.0;
        (8.0 - self.level as f32 / quarter).round_ties_even() as u32
    }
}

/// `image` after `ops` operations, each as likely as any other and drawn anew; without `color`, those that need colour are not among
/// them.
pub fn random(mut image: Image, ops: usize, magnitude: Magnitude, color: bool, draw: &mut dyn Draw) -> Image {
    let known: Vec<Operation> = Operation::ALL.into_iter().filter(|operation| color || *operation != Color).collect();
    for _ in 0..ops {
        let operation = known[draw.below(known.len() as u64) as usize];
        let negative = operation.has_sign() && draw.uniform() <= 0.5;
        image = operation.apply(image, magnitude, negative);
    }
    image
}
