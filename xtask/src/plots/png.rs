//! A picture of an SVG, with no font but the program's own.

use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result};
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{Options, Tree, fontdb::Database},
};

/// Pixels of the picture for one of the drawing, so that it prints well.
const SCALE: u16 = 2;

static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    Arc::new(fonts)
});

/// The drawing as usvg reads it.
pub(super) fn tree(svg: &str) -> Result<Tree> {
    let options = Options { fontdb: Arc::clone(&FONTS), ..Options::default() };
    Tree::from_str(svg, &options).context("the drawing is no SVG")
}

/// The picture of a drawing.
///
/// # Errors
/// When the text is no SVG or too large for memory.
pub fn png(svg: &str) -> Result<Vec<u8>> {
    let tree = tree(svg)?;
    let size = tree.size().to_int_size();
    let (width, height) = (size.width() * u32::from(SCALE), size.height() * u32::from(SCALE));
    let mut picture = Pixmap::new(width, height)
        .with_context(|| format!("a picture of {width} × {height} pixels is too large"))?;
    let scale = Transform::from_scale(f32::from(SCALE), f32::from(SCALE));
    resvg::render(&tree, scale, &mut picture.as_mut());
    picture.encode_png().context("the picture cannot be encoded as PNG")
}
