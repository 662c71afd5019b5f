"""What the papers and this project claim, measured."""
