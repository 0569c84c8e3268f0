"""What commands print: tables, sentences and progress bars."""
