//! Tables without lines: they survive copying, `grep` and narrow windows.

use comfy_table::{CellAlignment, Table, presets};

/// Lays cells out in columns. The first column is aligned to the left, `numbers` to the right.
pub(crate) fn table(header: &[&str], numbers: &[usize], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(String::as_str));
    }
    for column in numbers {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
