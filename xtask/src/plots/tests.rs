use super::{Drawing, draw_all, fixture::results, png};

fn drawings() -> Vec<Drawing> {
    draw_all(&results().inputs()).expect("the fixture can be drawn")
}

/// `PLOTS_OUT=DIR cargo test -p xtask plots` leaves the pictures there, to be looked at.
#[test]
fn every_drawing_becomes_a_picture() {
    let folder = std::env::var_os("PLOTS_OUT").map(std::path::PathBuf::from);
    for drawing in drawings() {
        let picture = png(&drawing.svg).expect("a drawing is an SVG");
        assert_eq!(&picture[1..4], b"PNG");
        if let Some(folder) = &folder {
            std::fs::write(folder.join(&drawing.name).with_extension("png"), picture)
                .expect("the folder can be written");
        }
    }
}
