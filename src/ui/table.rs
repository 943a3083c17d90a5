//! Tables as Docker prints them: columns three spaces apart and at least
//! ten wide, no lines.

/// Rows of cells under a header.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    /// The smallest width of a column.
    least: usize,
    /// Spaces between two columns.
    gap: usize,
}

impl Table {
    /// A table with its header.
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(ToString::to_string).collect()], least: 7, gap: 3 }
    }

    /// A table whose columns are 20 characters wide at least, as `docker compose ls` and `images` print theirs.
    pub fn wide(header: &[&str]) -> Self {
        Self { least: 17, ..Self::new(header) }
    }

    /// A table of narrow columns, as `docker compose top` prints its.
    pub fn narrow(header: &[&str]) -> Self {
        Self { least: 2, gap: 2, ..Self::new(header) }
    }

    /// A table whose columns are no wider than what is in them.
    pub fn close(header: &[&str]) -> Self {
        Self { least: 0, ..Self::new(header) }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The text, without a final newline.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(self.least)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join(&" ".repeat(self.gap)).trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Lines whose cells are separated by tabs, as Go's tabwriter aligns them for Docker: the last cell of a line is as
/// long as it is.
pub fn tabulate(lines: &[String]) -> String {
    let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let columns = cells.iter().map(Vec::len).max().unwrap_or(0);
    let mut widths = vec![7; columns];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row.split_last().map_or(&[][..], |(_, before)| before)) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in &cells {
        for (index, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if index + 1 < row.len() {
                let missing = widths.get(index).map_or(0, |width| width - cell.chars().count());
                out.push_str(&" ".repeat(missing + 3));
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "STATUS"]);
        table.row(vec!["a-long-name".into(), "Up".into()]);
        assert_eq!(table.render(), "NAME          STATUS\na-long-name   Up");
    }
}
